"""What a setting names and the daemon cannot use."""

from __future__ import annotations


class UnusableFile(OSError):
    """Yours to mend: a file that a setting names cannot be used. The message says which and why.

    A class of its own, for any other OSError is nobody's setting: too many open files, a socket that broke.
    """
