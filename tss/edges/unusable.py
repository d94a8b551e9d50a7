"""Files that a setting names and the daemon cannot use."""

from __future__ import annotations


class UnusableFile(OSError):
    """An operator's error: a file that a setting names cannot be used. The message says which file, and why.

    Other OSErrors are not about a setting: too many open files, a broken connection.
    """
