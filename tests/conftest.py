"""Before anything of `tss` is imported: see `tests.interpreted`."""

import tests.interpreted  # noqa: F401  # for its effect
