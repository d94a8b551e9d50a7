"""How deep arrays and maps are nested in the values of a message.

OpenTelemetry's limit is 64 (specification, "Attribute Limits": `AttributeValueDepthLimit`). What is deeper is no value
that an SDK makes: the scanner refuses the record, so that no reader behind it meets such a value.
"""

from __future__ import annotations

from contextlib import suppress

from tss.core.otlp.wire import WireError, fields

MAX_VALUE_DEPTH = 64

# 64 arrays in each other, with an empty one in the innermost, take 258 bytes at least: tag and length of an AnyValue's
# array and of its element each time. So nearly nothing has to be looked into.
DEEP_BYTES = 256

RESOURCE, SCOPE, EVENT, LINK, KEY_VALUE, ANY_VALUE, ARRAY, MAP = range(8)
# What lies within each of these, by the tag of its field.
_WITHIN: tuple[dict[int, int], ...] = (
    {1 << 3 | 2: KEY_VALUE},
    {3 << 3 | 2: KEY_VALUE},
    {3 << 3 | 2: KEY_VALUE},
    {4 << 3 | 2: KEY_VALUE},
    {2 << 3 | 2: ANY_VALUE},
    {5 << 3 | 2: ARRAY, 6 << 3 | 2: MAP},
    {1 << 3 | 2: ANY_VALUE},
    {1 << 3 | 2: KEY_VALUE},
)


def is_too_deep(message: bytes, kind: int) -> bool:
    """Whether a value in a serialized message of this kind is nested deeper than allowed.

    Fields count as they stand, and after a broken one there are no more.
    """
    if len(message) <= DEEP_BYTES:
        return False
    left = [(0, len(message), kind, 0)]  # where it starts and stops, what it is, and in how many arrays and maps
    while left:
        start, stop, kind, depth = left.pop()
        depth += kind in (ARRAY, MAP)
        if depth > MAX_VALUE_DEPTH:
            return True
        within = _WITHIN[kind]
        with suppress(WireError):
            for tag, _, body, end in fields(message, start, stop):
                if tag in within:
                    left.append((body, end, within[tag], depth))
    return False
