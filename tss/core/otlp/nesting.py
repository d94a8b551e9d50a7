"""Checks how deep arrays and maps are nested in the values of a message.

OpenTelemetry's limit is 64 (specification, "Attribute Limits": `AttributeValueDepthLimit`). No SDK makes deeper values.
The scanner rejects such a record, so that no later reader meets such a value.
"""

from __future__ import annotations

from contextlib import suppress

from tss.core.otlp.wire import WireError, fields

MAX_VALUE_DEPTH = 64

# 64 nested arrays with an empty one in the innermost take at least 258 bytes: tag and length of an AnyValue's array and of
# its element at each level. So nearly all values are too short to need the check.
DEEP_BYTES = 256

RESOURCE, SCOPE, EVENT, LINK, KEY_VALUE, ANY_VALUE, ARRAY, MAP = range(8)
# The kinds of messages within each kind, by the tag of the field.
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

    Every occurrence of a field is checked. The check ends at the first field that cannot be read.
    """
    if len(message) <= DEEP_BYTES:
        return False
    left = [(0, len(message), kind, 0)]  # start, stop, kind, and the number of arrays and maps around it
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
