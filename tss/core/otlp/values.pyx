# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The values that a program asks for, found during the pass. `leaves` answers what is asked of them."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from tss.core.otlp.found cimport (
    ARRAY, BOOL, BYTES, DOUBLE, INT, MAP, NONE, NOT_SET, TEXT, Asks, Hit, Kept, Keys, Scan, Text, hits,
)
from tss.core.otlp.protobuf cimport (
    FIXED64, LENGTH, MAX_DEPTH, NO_TROUBLE, VARINT, Failure, Pos, content, fixed64, head, is_same, skip, varint,
)

cdef enum:
    MOST_CONTAINERS = 64  # nested: `nesting.MAX_VALUE_DEPTH`
    MOST_LAYERS = 3 * MOST_CONTAINERS + 4  # a map, its pair and its value at each level; around them a holder, a pair and a value
    SEEN_BITS = 64


# How deep values are -------------------------------------------------------------------------------------------------


cdef struct Layer:  # a message that is being checked
    Pos at
    Pos stop
    Nested kind


cdef inline Nested within(Nested kind, uint64_t tag) noexcept nogil:
    """The kind of the message in the field with this tag, in a message of this kind."""
    if kind == KEY_VALUE:
        return ANY_VALUE if tag == (2 << 3 | LENGTH) else WITHOUT
    if kind == ANY_VALUE:
        return ARRAY_VALUE if tag == (5 << 3 | LENGTH) else MAP_VALUE if tag == (6 << 3 | LENGTH) else WITHOUT
    if kind == ARRAY_VALUE:
        return ANY_VALUE if tag == (1 << 3 | LENGTH) else WITHOUT
    if kind == MAP_VALUE or kind == OF_RESOURCE:
        return KEY_VALUE if tag == (1 << 3 | LENGTH) else WITHOUT
    return KEY_VALUE if tag == ((4 if kind == OF_LINK else 3) << 3 | LENGTH) else WITHOUT


cdef bint is_too_deep(Pos at, Pos stop, Nested kind) noexcept nogil:
    """The same as `nesting.is_too_deep`. It has its own stack, so that nothing recurses on data."""
    cdef Layer[MOST_LAYERS] layers
    cdef Layer *layer = layers
    cdef Failure failure
    cdef uint64_t tag = 0
    cdef Pos body, end = NULL
    cdef Nested inner
    cdef uint32_t depth = 0
    layer.at, layer.stop, layer.kind = at, stop, kind
    while True:
        inner = WITHOUT
        while layer.at != NULL and layer.at < layer.stop and inner == WITHOUT:
            layer.at = head(&failure, layer.at, layer.stop, &tag)
            if layer.at == NULL:
                break
            inner = within(layer.kind, tag)
            if inner == WITHOUT:
                layer.at = skip(&failure, layer.at, layer.stop, tag, MAX_DEPTH)
                continue
            body = content(&failure, layer.at, layer.stop, &end)
            layer.at = end
            if body == NULL or inner == KEY_VALUE and depth == 0 and end - body <= DEEP_BYTES:
                inner = WITHOUT
        if inner != WITHOUT:
            if inner == ARRAY_VALUE or inner == MAP_VALUE:
                if depth == MOST_CONTAINERS:
                    return True
                depth += 1
            layer += 1
            layer.at, layer.stop, layer.kind = body, end, inner
            continue
        if layer == layers:
            return False
        if layer.kind == ARRAY_VALUE or layer.kind == MAP_VALUE:
            depth -= 1
        layer -= 1


# During the pass -----------------------------------------------------------------------------------------------------


cdef Pos any_value(Scan *s, Pos at, Pos stop, Hit *hit) noexcept nogil:
    """Read an AnyValue. The last field of its oneof is the value."""
    cdef uint64_t tag = 0, number = 0
    cdef Pos end = NULL
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (1 << 3 | LENGTH) or tag == (5 << 3 | LENGTH) or tag == (6 << 3 | LENGTH) or tag == (7 << 3 | LENGTH):
            hit.type = TEXT
            if tag != (1 << 3 | LENGTH):
                hit.type = ARRAY if tag == (5 << 3 | LENGTH) else MAP if tag == (6 << 3 | LENGTH) else BYTES
            hit.at = content(&s.failure, at, stop, &end)
            at = end
            hit.bits = end - hit.at
        elif tag == (2 << 3 | VARINT):
            at = varint(&s.failure, at, stop, &number)
            hit.type, hit.bits = BOOL, number != 0
        elif tag == (3 << 3 | VARINT):
            hit.type = INT
            at = varint(&s.failure, at, stop, &hit.bits)
        elif tag == (4 << 3 | FIXED64):
            hit.type = DOUBLE
            at = fixed64(&s.failure, at, stop, &hit.bits)
        else:
            at = skip(&s.failure, at, stop, tag, MAX_DEPTH - 1)
    return at


cdef Pos key_value(Scan *s, Pos at, Pos stop, Text *key, Hit *hit) noexcept nogil:
    """Read a KeyValue. If it has two keys, the last one counts; two values are merged."""
    cdef uint64_t tag = 0
    cdef Pos body, end = NULL
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (1 << 3 | LENGTH):
            key.at = content(&s.failure, at, stop, &end)
            at = end
            key.size = end - key.at
        elif tag == (2 << 3 | LENGTH):
            body = content(&s.failure, at, stop, &end)
            at = end
            if body == NULL or any_value(s, body, at, hit) == NULL:
                return NULL
        else:
            at = skip(&s.failure, at, stop, tag, MAX_DEPTH)
    return at


cdef bint has(Scan *s, Kept *kept, uint32_t ask) noexcept nogil:
    """Whether there is a hit for this ask already."""
    cdef uint32_t number = kept.first
    while number != NONE:
        if hits(s)[number].ask == ask:
            return True
        number = hits(s)[number].next
    return False


cdef inline bint keep_first(Scan *s, Hit *hit, uint32_t ask, Kept *kept) noexcept nogil:
    """Append the value of an attribute. The first attribute with a key counts, even without a value."""
    if ask < SEEN_BITS:
        if kept.seen >> ask & 1:
            return True
        kept.seen |= <uint64_t> 1 << ask
    elif has(s, kept, ask):
        return True
    return keep(s, hit, ask, kept)


cdef inline Pos simple_value(Scan *s, Pos at, Pos stop, Hit *hit) noexcept nogil:
    """The same as `any_value`, fast for a text and for a small number."""
    if stop - at >= 2 and at[0] == (1 << 3 | LENGTH) and at[1] == stop - at - 2 and at[1] < 0x80:
        hit.type, hit.at, hit.bits = TEXT, at + 2, at[1]
        return stop
    if stop - at == 2 and at[0] == (3 << 3 | VARINT) and at[1] < 0x80:
        hit.type, hit.bits = INT, at[1]
        return stop
    return any_value(s, at, stop, hit)


cdef bint attribute(Scan *s, Keys *keys, Pos at, Pos stop, int32_t candidate, Kept *kept) noexcept nogil:
    """Append the value of an attribute if it is asked for. `candidate` is what `candidate_of` found. False if there is no
    memory."""
    cdef Hit hit
    cdef Text key
    cdef Pos end
    hit.type, hit.at, hit.bits = NOT_SET, NULL, 0
    key.at, key.size = NULL, 0
    if candidate >= 0:
        key.at, key.size = at + 2, at[1]
        end = simple_value(s, key.at + key.size + 2, stop, &hit)
        if end != NULL:
            if not keep_first(s, &hit, keys.items[candidate].ask, kept):
                return False
            candidate = keys.items[candidate].next
    else:
        end = key_value(s, at, stop, &key, &hit)
        if end != NULL:
            candidate = keys.slots[slot_of(<const char *> key.at, key.size)]
    if end == NULL:
        s.failure.what = NO_TROUBLE  # an attribute that cannot be parsed has no value, and does not make the record unreadable
        return True
    while candidate >= 0:
        if is_text(&key, keys.items[candidate].text, keys.items[candidate].size):
            if not keep_first(s, &hit, keys.items[candidate].ask, kept):
                return False
        candidate = keys.items[candidate].next
    return True


cdef inline bint is_text(Text *text, const char *other, uint32_t size) noexcept nogil:
    return text.size == size and is_same(text.at, <Pos> other, size)


cdef Pos plain_value(Scan *s, Pos at, Pos stop, uint64_t tag, Hit *hit) noexcept nogil:
    """Read a field that is no attribute: a text, a count of 32 bits, or a time."""
    cdef Pos end = NULL
    if tag & 7 == LENGTH:
        hit.at = content(&s.failure, at, stop, &end)
        hit.bits = end - hit.at
        return end
    if tag & 7 == VARINT:
        at = varint(&s.failure, at, stop, &hit.bits)
        hit.bits = <uint32_t> hit.bits
        return at
    return fixed64(&s.failure, at, stop, &hit.bits)


cdef bint keep_last(Scan *s, Hit *hit, uint32_t ask, Kept *kept) noexcept nogil:
    """Keep the value of a field in place of one that was kept before. False if there is no memory."""
    cdef uint32_t number = kept.first
    while number != NONE:
        if hits(s)[number].ask == ask:
            hit.ask, hit.next = ask, hits(s)[number].next
            hits(s)[number] = hit[0]
            return True
        number = hits(s)[number].next
    return keep(s, hit, ask, kept)


cdef bint keep_plain(Scan *s, Asks *asks, uint64_t tag, Hit *hit, Kept *kept) noexcept nogil:
    """Keep the value of a field for each ask that asks for it. False if there is no memory."""
    cdef uint32_t number
    for number in range(asks.plain_used):
        if asks.plain[number].tag == tag:
            hit.type = asks.plain[number].type
            if not keep_last(s, hit, asks.plain[number].ask, kept):
                return False
    return True


cdef inline bint is_plain(Asks *asks, uint64_t tag) noexcept nogil:
    cdef uint32_t number
    for number in range(asks.plain_used):
        if asks.plain[number].tag == tag:
            return True
    return False


cdef bint take(Scan *s, Keys *keys, Pos at, Pos stop, Kept *kept) noexcept nogil:
    cdef int32_t candidate = candidate_of(keys, at, stop)
    return candidate == UNASKED or attribute(s, keys, at, stop, candidate, kept)


cdef Outcome look_up(Scan *s, Asks *asks, Pos start, Pos stop, Kept *kept) noexcept nogil:
    """Append what is asked of a resource, a scope or an event. If it cannot be parsed, it has nothing."""
    cdef Pos at, body, end = NULL
    cdef uint64_t tag = 0
    cdef Hit hit
    cdef Kept before = kept[0]
    cdef uint32_t used = s.hits.used
    cdef int turn
    # The last of two equal fields that are no attributes is kept in place of the first. So with such asks the first turn only
    # checks whether it can be parsed, and the second looks up. Without them one turn does both.
    for turn in range(0 if asks.plain_used else 1, 2):
        at = start
        while at < stop:
            at = head(&s.failure, at, stop, &tag)
            if at != NULL and tag == asks.tag:
                body = content(&s.failure, at, stop, &end)
                at = end
                if turn and body != NULL and not take(s, &asks.keys, body, at, kept):
                    return OUT_OF_MEMORY
            elif at != NULL and turn and asks.plain_used and is_plain(asks, tag):
                memset(&hit, 0, sizeof(Hit))
                at = plain_value(s, at, stop, tag, &hit)
                if not keep_plain(s, asks, tag, &hit, kept):
                    return OUT_OF_MEMORY
            elif at != NULL:
                at = skip(&s.failure, at, stop, tag, MAX_DEPTH)
            if at == NULL:
                s.failure.what = NO_TROUBLE
                s.hits.used, kept[0] = used, before
                if kept.last != NONE:
                    hits(s)[kept.last].next = NONE
                return NOT_READABLE
    return READ
