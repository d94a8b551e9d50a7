"""Headers of HTTP requests; their values are secrets."""

import re

from tss.settings.errors import InvalidSetting, InvalidValue, shape
from tss.settings.kinds.kind import TEXT, mapping_of


def _read_header(name: str, raw: object) -> tuple[str, str]:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise InvalidValue(InvalidSetting("", "a name that HTTP does not allow", "letters, digits and dashes"))
    if not isinstance(raw, str) or not raw.isprintable() or not raw.isascii():
        # The value of a header may be a secret (an API key, a token), so the error has only its sort.
        raise InvalidValue(InvalidSetting("", shape(raw), "text in ASCII, without line breaks"))
    return name, raw


headers = mapping_of("a mapping of header names to texts", _read_header, TEXT)
