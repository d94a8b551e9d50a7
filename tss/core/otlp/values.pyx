# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The values that policies ask for: found during the pass, and made Python objects together with the fragments."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_1BYTE_DATA, PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8, PyUnicode_GET_LENGTH
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from tss.core.otlp.found cimport (
    BOOL, BYTES, DOUBLE, INT, KEY_SLOTS, NONE, NOT_SET, RESOURCE, SCOPE, TEXT, Chain, Hit, Keys, Scan, Text, Trace,
    grow, hits, holder_of, holders, spans,
)
from tss.core.otlp.protobuf cimport (
    FIXED64, LENGTH, MAX_DEPTH, NO_TROUBLE, VARINT, Failure, Pos, content, fixed64, head, skip, varint,
)

from tss.core.otlp import lookup as lookups

cdef enum:
    FEW_ASKS = 8  # up to this many asks, their state is on the stack
    MOST_SHARED_BYTES = 64
    MOST_CONTAINERS = 64  # nested: `nesting.MAX_VALUE_DEPTH`
    MOST_LAYERS = 3 * MOST_CONTAINERS + 4  # a map, its pair and its value at each level; around them a holder, a pair and a value

cdef uint32_t MOST_VALUES = lookups.MAX_VALUES


cdef struct Found:  # the hits kept for an ask in a trace, the last one first
    uint32_t last
    uint32_t values


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
        return ARRAY if tag == (5 << 3 | LENGTH) else MAP if tag == (6 << 3 | LENGTH) else WITHOUT
    if kind == ARRAY:
        return ANY_VALUE if tag == (1 << 3 | LENGTH) else WITHOUT
    if kind == MAP or kind == OF_RESOURCE:
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
            if body == NULL:
                inner = WITHOUT
        if inner != WITHOUT:
            if inner == ARRAY or inner == MAP:
                if depth == MOST_CONTAINERS:
                    return True
                depth += 1
            layer += 1
            layer.at, layer.stop, layer.kind = body, end, inner
            continue
        if layer == layers:
            return False
        if layer.kind == ARRAY or layer.kind == MAP:
            depth -= 1
        layer -= 1


# During the pass -----------------------------------------------------------------------------------------------------


cdef uint32_t slot_of(const char *text, uint32_t size) noexcept nogil:
    # The length and the last letter distinguish nearly all keys of one service, and cost nothing to compute.
    return (size * 7 + (<uint8_t> text[size - 1] if size else 0)) % KEY_SLOTS


cdef Pos any_value(Scan *s, Pos at, Pos stop, Hit *hit) noexcept nogil:
    """Read an AnyValue. The last field of its oneof is the value."""
    cdef uint64_t tag = 0, number = 0
    cdef Pos end = NULL
    while at != NULL and at < stop:
        at = head(&s.failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (1 << 3 | LENGTH) or tag == (5 << 3 | LENGTH) or tag == (6 << 3 | LENGTH) or tag == (7 << 3 | LENGTH):
            hit.type = TEXT if tag == (1 << 3 | LENGTH) else BYTES
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


cdef inline bint has(Scan *s, Chain *chain, uint32_t ask) noexcept nogil:
    """Whether there is a hit for this ask already. A chain has at most one hit for each ask."""
    cdef uint32_t number = chain.first
    while number != NONE:
        if hits(s)[number].ask == ask:
            return True
        number = hits(s)[number].next
    return False


cdef bint keep(Scan *s, Hit *hit, uint32_t ask, Chain *chain) noexcept nogil:
    """Append a copy of `hit` to a chain. False if there is no memory."""
    cdef uint32_t number = s.hits.used
    if number == s.hits.room and not grow(s, &s.hits):
        return False
    s.hits.used += 1
    hit.ask, hit.next, hit.kept = ask, NONE, NONE
    hits(s)[number] = hit[0]
    if chain.first == NONE:
        chain.first = number
    else:
        hits(s)[chain.last].next = number
    chain.last = number
    return True


cdef inline bint is_unasked(Keys *keys, Pos at, Pos stop) noexcept nogil:
    """A quick check whether an attribute with a short key and one short value is not asked for, valid or not."""
    cdef Pos key = at + 2, value
    if stop - at < 2 or at[0] != (1 << 3 | LENGTH) or at[1] >= 0x80 or at[1] > stop - key:
        return False
    value = key + at[1]
    if keys.slots[slot_of(<const char *> key, at[1])] >= 0:
        return False
    return stop - value >= 2 and value[0] == (2 << 3 | LENGTH) and value[1] < 0x80 and value[1] == stop - value - 2


cdef bint attribute(Scan *s, Keys *keys, Pos at, Pos stop, Chain *chain) noexcept nogil:
    """Append the value of an attribute to the chain if it is asked for. False if there is no memory."""
    cdef Hit hit
    cdef Text key
    cdef int32_t candidate
    if is_unasked(keys, at, stop):
        return True
    memset(&hit, 0, sizeof(Hit))
    memset(&key, 0, sizeof(Text))
    if key_value(s, at, stop, &key, &hit) == NULL:
        s.failure.what = NO_TROUBLE  # an attribute that cannot be parsed has no value, and does not make the record unreadable
        return True
    candidate = keys.slots[slot_of(<const char *> key.at, key.size)]
    while candidate >= 0:
        if is_text(&key, keys.items[candidate].text, keys.items[candidate].size):
            # The first attribute with a key counts, even without a value.
            if not has(s, chain, keys.items[candidate].ask) and not keep(s, &hit, keys.items[candidate].ask, chain):
                return False
        candidate = keys.items[candidate].next
    return True


cdef inline bint is_text(Text *text, const char *other, uint32_t size) noexcept nogil:
    return text.size == size and (size == 0 or memcmp(text.at, other, size) == 0)


cdef bint attributes(Scan *s, Keys *keys, uint64_t wanted, Pos start, Pos stop, Chain *chain) noexcept nogil:
    """Look up the attributes of a resource or scope, in fields with the tag `wanted`. If it cannot be parsed, it has none.
    False if there is no memory."""
    cdef Pos at, body, end = NULL
    cdef uint64_t tag = 0
    cdef int turn
    for turn in range(2):  # the first turn checks whether it can be parsed, the second looks up
        at = start
        while at < stop:
            at = head(&s.failure, at, stop, &tag)
            if at != NULL and tag == wanted:
                body = content(&s.failure, at, stop, &end)
                at = end
                if turn and not attribute(s, keys, body, at, chain):
                    return False
            elif at != NULL:
                at = skip(&s.failure, at, stop, tag, MAX_DEPTH)
            if at == NULL:
                s.failure.what = NO_TROUBLE
                return True
    return True


# Afterwards ----------------------------------------------------------------------------------------------------------


cdef object text_of(Hit *hit, list texts):
    """A text that is UTF-8. Most texts occur again and again, so sharing one object among traces saves time and memory."""
    cdef const char *start = <const char *> hit.at
    cdef Py_ssize_t size = hit.bits
    cdef uint32_t slot
    if size == 0:
        return ""
    if size > MOST_SHARED_BYTES or not ascii(hit.at, size):
        return PyUnicode_DecodeUTF8(start, size, NULL)
    slot = (size * 31 + hit.at[0] * 7 + hit.at[size - 1] * 3 + hit.at[size // 2]) % SHARED_TEXTS
    known = texts[slot]
    if known is None or PyUnicode_GET_LENGTH(known) != size or memcmp(PyUnicode_1BYTE_DATA(known), start, size) != 0:
        known = texts[slot] = PyUnicode_DecodeASCII(start, size, NULL)
    return known


cdef object value_of(Hit *hit, list texts):
    cdef double number
    if hit.type == TEXT:
        return text_of(hit, texts)
    if hit.type == BYTES:
        return PyBytes_FromStringAndSize(<const char *> hit.at, hit.bits)
    if hit.type == BOOL:
        return hit.bits != 0
    if hit.type == INT:
        return <int64_t> hit.bits
    memcpy(&number, &hit.bits, 8)
    return number


cdef inline bint ascii(Pos at, Py_ssize_t size) noexcept nogil:
    cdef uint8_t seen = 0
    cdef Py_ssize_t number
    for number in range(size):
        seen |= at[number]
    return seen < 0x80


cdef inline bint same(Hit *one, Hit *two) noexcept nogil:
    if one.type != two.type or one.bits != two.bits:
        return False
    if one.type != TEXT and one.type != BYTES:
        return True
    return one.bits == 0 or memcmp(one.at, two.at, one.bits) == 0


cdef inline bint is_kept(Scan *s, Hit *hit, uint32_t kept) noexcept nogil:
    while kept != NONE:
        if same(hit, hits(s) + kept):
            return True
        kept = hits(s)[kept].kept
    return False


cdef object mended(Hit *hit):
    """Replace a text that is not UTF-8 by the text as it is read. The returned bytes object owns it."""
    cdef bytes text = PyUnicode_DecodeUTF8(<const char *> hit.at, hit.bits, "replace").encode()
    hit.at, hit.bits = <Pos> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
    return text


cdef int take(Scan *s, uint32_t at, Found *found, list alive) except -1:
    """Keep the hits of a chain whose values are new."""
    cdef Hit *hit
    cdef Found *mine
    while at != NONE:
        hit = hits(s) + at
        mine = found + hit.ask
        if hit.type != NOT_SET and mine.values < MOST_VALUES and not is_kept(s, hit, mine.last):
            if hit.type == TEXT and not ascii(hit.at, hit.bits):
                alive.append(mended(hit))
                if is_kept(s, hit, mine.last):
                    at = hit.next
                    continue
            hit.kept = mine.last
            mine.last = at
            mine.values += 1
        at = hit.next
    return 0


cdef tuple values_of_ask(Scan *s, Found *found, list texts):
    cdef tuple values
    cdef uint32_t at = found.last
    cdef Py_ssize_t number = found.values
    if number == 0:
        return ()
    values = PyTuple_New(number)
    while at != NONE:  # from the last to the first
        number -= 1
        value = value_of(hits(s) + at, texts)
        Py_INCREF(value)  # SET_ITEM steals a reference
        PyTuple_SET_ITEM(values, number, value)
        at = hits(s)[at].kept
    return values


cdef tuple values_of(Scan *s, Trace *trace, list texts, list alive):
    """The values asked for. Objects to which hits now point are appended to `alive`, which must outlive the hits."""
    cdef Found[FEW_ASKS] few
    cdef Found *found = few
    cdef uint32_t number
    if s.wanted.asks > FEW_ASKS:
        found = <Found *> malloc(s.wanted.asks * sizeof(Found))
        if found == NULL:
            raise MemoryError
    try:
        for number in range(s.wanted.asks):
            found[number].last, found[number].values = NONE, 0
        take_all(s, trace, found, alive)
        return tuple([values_of_ask(s, found + number, texts) for number in range(s.wanted.asks)])
    finally:
        if found != few:
            free(found)


cdef int take_all(Scan *s, Trace *trace, Found *found, list alive) except -1:
    """Collect the values of each span's resource, of its scope, and its own. A resource or scope is collected only once."""
    cdef uint32_t at = trace.first, scope = NONE, resource = NONE
    while at != NONE:
        if holder_of(s, at, RESOURCE) != resource:
            resource = holder_of(s, at, RESOURCE)
            take(s, holders(s)[resource].hits.first, found, alive)
        if holder_of(s, at, SCOPE) != scope:
            scope = holder_of(s, at, SCOPE)
            take(s, holders(s)[scope].hits.first, found, alive)
        take(s, spans(s)[at].hits, found, alive)
        at = spans(s)[at].next
    return 0


cdef list values_of_each_span(Scan *s, list texts, list alive):
    """The values asked for in each span of the message. `alive` is as in `values_of`."""
    cdef Found *found = <Found *> malloc((s.wanted.asks or 1) * sizeof(Found))
    cdef uint32_t at, number
    cdef list each = []
    if found == NULL:
        raise MemoryError
    try:
        for at in range(s.spans.used):
            for number in range(s.wanted.asks):
                found[number].last, found[number].values = NONE, 0
            take(s, holders(s)[holder_of(s, at, RESOURCE)].hits.first, found, alive)
            take(s, holders(s)[holder_of(s, at, SCOPE)].hits.first, found, alive)
            take(s, spans(s)[at].hits, found, alive)
            each.append(tuple([values_of_ask(s, found + number, texts) for number in range(s.wanted.asks)]))
        return each
    finally:
        free(found)
