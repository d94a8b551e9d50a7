# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One walk over a trace's bytes in C: it makes a `Fact` of each span, without Python objects.

The scanner has read these bytes before and passes on only valid messages; the walk checks all bounds again. An attribute
that cannot be parsed has no value, as in the scanner. Source of the field numbers: opentelemetry-proto,
`trace/v1/trace.proto`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memset

from tss.core.otlp.ids cimport id_at
from tss.core.otlp.protobuf cimport (
    FIXED64, LENGTH, MAX_DEPTH, NO_TROUBLE, VARINT, Failure, Pos, content, fixed64, head, skip, varint,
)
from tss.core.formats.apm_stats.hashing cimport fold, hashed

cdef enum:
    FEW_SPANS = 16  # up to this many spans, comparing all ids is cheaper than a hash table
    # The room that a walker keeps for the next trace. A fact has 320 bytes.
    KEPT_FACTS = 4096
    FIRST_FACTS = 64
    FIRST_HOLDERS = 8

cdef uint64_t SEED = <uint64_t> <Py_ssize_t> hash("tss.core.formats.apm_stats")
cdef uint64_t ODD = <uint64_t> <Py_ssize_t> hash("tss.core.formats.apm_stats, odd") | 1


# Keys ---------------------------------------------------------------------------------------------------------------


cdef inline uint32_t slot_of(const char *text, uint32_t size) noexcept nogil:
    if size == 0:
        return 0
    return (size * 37 + <uint8_t> text[size - 1] * 5 + <uint8_t> text[size // 2] * 131) % KEY_SLOTS


cdef inline Key *key_of(Keys *keys, Pos text, uint32_t size) noexcept nogil:
    cdef int16_t at = keys.slots[slot_of(<const char *> text, size)]
    cdef Key *key
    while at >= 0:
        key = keys.items + at
        if key.size == size and memcmp(key.text, text, size) == 0:
            return key
        at = key.next
    return NULL


cdef int compile_keys(Keys *keys, list wanted) except -1:
    """Fill the table from (key, names, service, note, text). The keys must outlive it."""
    cdef uint32_t slot
    cdef Key *key
    cdef bytes text
    memset(keys.slots, 0xFF, sizeof(keys.slots))  # -1
    keys.used = 0
    keys.items = <Key *> calloc(len(wanted) or 1, sizeof(Key))
    if keys.items == NULL:
        raise MemoryError
    for text, names, service, note, apart in wanted:
        key = keys.items + keys.used
        key.text, key.size = PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
        key.names, key.service, key.note, key.apart = names, service, note, apart
        slot = slot_of(key.text, key.size)
        key.next, keys.slots[slot] = keys.slots[slot], keys.used
        keys.used += 1
    return 0


# The walk -----------------------------------------------------------------------------------------------------------


cdef struct Told:  # what the attributes of a span or of a resource say
    uint64_t series
    uint64_t service
    uint32_t prefixes  # a bit for each prefix that was seen
    uint32_t noted  # a bit for each note that was found: the first attribute with a key counts
    Piece *notes
    Piece *texts  # NULL for a resource
    uint64_t apart  # the hash of the attributes among `texts`


cdef inline bint key_and_value(Failure *failure, Pos at, Pos stop, Piece *key, Piece *value) noexcept nogil:
    """Find key and value of a KeyValue. False if it cannot be parsed. If a field occurs twice, the last one counts."""
    cdef uint64_t tag = 0
    cdef Pos end = NULL
    cdef Piece *part
    key.at = key.stop = value.at = value.stop = NULL
    while at < stop:
        at = head(failure, at, stop, &tag)
        if at == NULL:
            return False
        if tag == (1 << 3 | LENGTH) or tag == (2 << 3 | LENGTH):
            part = key if tag == (1 << 3 | LENGTH) else value
            part.at = content(failure, at, stop, &end)
            part.stop = at = end
        else:
            at = skip(failure, at, stop, tag, MAX_DEPTH)
        if at == NULL:
            return False
    return True


cdef inline bint plain_key(Pos at, Pos stop, Piece *key, Piece *value) noexcept nogil:
    """A faster `key_and_value` for a short key followed by one value, as all libraries write it; False for anything else."""
    cdef Pos body
    if stop - at < 4 or at[0] != (1 << 3 | LENGTH) or at[1] >= 0x80 or at[1] > stop - at - 4:
        return False
    key.at, key.stop = at + 2, at + 2 + at[1]
    body = key.stop + 2
    if key.stop[0] != (2 << 3 | LENGTH):
        return False
    if key.stop[1] >= 0x80:
        if body == stop or body[0] >= 0x80 or stop - body - 1 != (key.stop[1] & 0x7F | <int> body[0] << 7):
            return False
        body += 1
    elif stop - body != key.stop[1]:
        return False
    value.at, value.stop = body, stop
    return True


cdef inline bint plain_text(Piece *value, Piece *text) noexcept nogil:
    """Find the text of an AnyValue. False unless the AnyValue is one string that is not empty."""
    cdef Pos at = value.at
    cdef uint64_t size = 0
    cdef uint32_t shift = 0
    cdef bint more = True
    if value.stop - at < 3 or at[0] != (1 << 3 | LENGTH):
        return False
    at += 1
    while more and at < value.stop and shift < 35:
        size |= <uint64_t> (at[0] & 0x7F) << shift
        more = at[0] >= 0x80
        shift += 7
        at += 1
    if more or size == 0 or <uint64_t> (value.stop - at) != size:
        return False
    text.at, text.stop = at, value.stop
    return True


cdef inline void attribute(Walker walker, Keys *keys, Failure *failure, Pos at, Pos stop, Told *told) noexcept nogil:
    """Add an attribute to the hashes, notes and texts for which its key is wanted."""
    cdef Piece key, value
    cdef Key *known
    if not plain_key(at, stop, &key, &value) and not key_and_value(failure, at, stop, &key, &value):
        failure.what = NO_TROUBLE
        return
    known = key_of(keys, key.at, key.stop - key.at)
    if known == NULL:
        if walker.prefixes.used and key.at != NULL:
            prefixed(&walker.prefixes, &key, told)
        return
    if known.apart != NO_NOTE and told.texts != NULL and told.texts[known.apart].at == NULL and plain_text(&value, told.texts + known.apart):
        told.apart = hashed(told.apart, at, stop - at, SEED, ODD)
        told.series = fold(told.series ^ SEED ^ known.apart, ODD)
    elif known.names:
        told.series = hashed(told.series, at, stop - at, SEED, ODD)
    if known.service:
        told.service = hashed(told.service, value.at, value.stop - value.at, SEED, ODD)
    if known.note != NO_NOTE and not told.noted >> known.note & 1 and stop - at <= MOST_NOTE and is_sound(at, stop):
        told.noted |= <uint32_t> 1 << known.note
        told.notes[known.note].at, told.notes[known.note].stop = at, stop


cdef bint is_sound(Pos at, Pos stop) noexcept nogil:
    """Whether the value of a KeyValue can be read. The KeyValue's own fields have been read before. If not, the attribute has
    no value, as in the scanner."""
    cdef Failure failure
    cdef uint64_t tag = 0
    cdef Pos value, end = NULL
    while at < stop:
        at = head(&failure, at, stop, &tag)
        if at == NULL:
            return False
        if tag != (2 << 3 | LENGTH):
            at = skip(&failure, at, stop, tag, MAX_DEPTH)
            if at == NULL:
                return False
            continue
        value = content(&failure, at, stop, &end)
        at = end
        while value != NULL and value < at:
            value = head(&failure, value, at, &tag)
            if value != NULL:
                value = skip(&failure, value, at, tag, MAX_DEPTH - 1)
        if value == NULL:
            return False
    return True


cdef inline void prefixed(Keys *prefixes, Piece *key, Told *told) noexcept nogil:
    """Note each prefix that the key has. Only the presence of such an attribute counts, not its value."""
    cdef uint32_t number
    cdef Key *prefix
    for number in range(prefixes.used):
        prefix = prefixes.items + number
        if key.stop - key.at >= prefix.size and memcmp(key.at, prefix.text, prefix.size) == 0:
            told.prefixes |= <uint32_t> 1 << number


cdef Pos read_status(Failure *failure, Pos at, Pos stop, Fact *fact) noexcept nogil:
    cdef uint64_t tag = 0, value = 0
    while at != NULL and at < stop:
        at = head(failure, at, stop, &tag)
        if at == NULL:
            return NULL
        if tag == (3 << 3 | VARINT):
            at = varint(failure, at, stop, &value)
            fact.status = <int32_t> <uint32_t> value
        else:
            at = skip(failure, at, stop, tag, MAX_DEPTH)
    return at


cdef bint read_span(Walker walker, Failure *failure, Fact *fact, Told *told) noexcept nogil:
    """Read a span's fields. If a field occurs twice, the last one counts. False if the span cannot be read."""
    cdef uint64_t tag = 0, value = 0
    cdef Pos at = fact.span.at, stop = fact.span.stop, body, end = NULL
    while at < stop:
        at = head(failure, at, stop, &tag)
        if at == NULL:
            return False
        if tag & 7 == LENGTH and tag >= 8:
            body = content(failure, at, stop, &end)
            at = end
            if body == NULL:
                return False
            if tag == (9 << 3 | LENGTH):
                attribute(walker, &walker.span_keys, failure, body, at, told)
            elif tag == (2 << 3 | LENGTH):
                fact.span_id = id_at(body) if at - body == 8 else 0
            elif tag == (3 << 3 | LENGTH):
                fact.trace_state.at, fact.trace_state.stop = body, at
            elif tag == (4 << 3 | LENGTH):
                fact.parent_id = id_at(body) if at - body == 8 else 0
            elif tag == (5 << 3 | LENGTH):
                fact.name.at, fact.name.stop = body, at
            elif tag == (15 << 3 | LENGTH) and read_status(failure, body, at, fact) == NULL:
                return False
        elif tag == (7 << 3 | FIXED64):
            at = fixed64(failure, at, stop, &fact.start_ns)
        elif tag == (8 << 3 | FIXED64):
            at = fixed64(failure, at, stop, &fact.end_ns)
        elif tag == (6 << 3 | VARINT):
            at = varint(failure, at, stop, &value)
            fact.kind = <int32_t> <uint32_t> value
        else:
            at = skip(failure, at, stop, tag, MAX_DEPTH)
        if at == NULL:
            return False
    return True


cdef bint walk_span(Walker walker, Failure *failure, Pos at, Pos stop, uint32_t resource) except -1:
    """Add the fact of one span. False if the span cannot be read."""
    cdef Fact *fact
    cdef Told told
    cdef Holder *holder = walker.resources + resource
    if walker.count == walker.room:
        walker.facts = <Fact *> grown(walker.facts, &walker.room, FIRST_FACTS, sizeof(Fact))
    fact = walker.facts + walker.count
    memset(fact, 0, sizeof(Fact))
    fact.span.at, fact.span.stop = at, stop
    fact.resource, fact.parent = resource, NOBODY
    fact.notes = holder.notes
    told.series, told.service, told.prefixes, told.noted = holder.series, holder.service, 0, 0
    told.notes, told.texts, told.apart = fact.notes, fact.texts, SEED
    if not read_span(walker, failure, fact, &told):
        return False
    told.series = fold(told.series ^ (<uint64_t> told.prefixes << 32 | <uint32_t> fact.kind), ODD)
    if walker.by_status:
        told.series = fold(told.series ^ <uint32_t> fact.status ^ SEED, ODD)
    fact.bare = fold(told.series ^ (fact.name.stop > fact.name.at), ODD) or 1
    fact.series = hashed(told.series ^ told.apart, fact.name.at, fact.name.stop - fact.name.at, SEED, ODD) or 1
    fact.service = told.service or 1
    walker.count += 1
    return True


cdef void *grown(void *items, uint32_t *room, uint32_t first, size_t each) except NULL:
    """The array with twice the room."""
    cdef uint32_t wanted = room[0] * 2 or first
    items = realloc(items, wanted * each)
    if items == NULL:
        raise MemoryError
    room[0] = wanted
    return items


cdef bint next_field(Failure *failure, Pos *at, Pos stop, uint64_t *tag, Piece *body) noexcept nogil:
    """Go to the end of the next field. `body` is empty if the field is no message. False at the end, or if it cannot be read."""
    cdef Pos end = NULL
    body.at = body.stop = NULL
    if at[0] >= stop:
        return False
    at[0] = head(failure, at[0], stop, tag)
    if at[0] == NULL:
        return False
    if tag[0] & 7 == LENGTH and tag[0] >= 8:
        body.at = content(failure, at[0], stop, &end)
        body.stop = at[0] = end
    else:
        at[0] = skip(failure, at[0], stop, tag[0], MAX_DEPTH)
    return at[0] != NULL


cdef bint tell(Holder *holder, Failure *failure) noexcept nogil:
    """Find the Resource of a ResourceSpans. False if the message cannot be read."""
    cdef Pos at = holder.whole.at
    cdef uint64_t tag = 0
    cdef Piece body
    while next_field(failure, &at, holder.whole.stop, &tag, &body):
        if tag == (1 << 3 | LENGTH):
            holder.told = body
            holder.telling += 1
    return at != NULL


cdef inline bint same(Piece *one, Piece *other) noexcept nogil:
    cdef Py_ssize_t size = one.stop - one.at
    return other.stop - other.at == size and (size == 0 or memcmp(one.at, other.at, size) == 0)


cdef int read_resource(Walker walker, Holder *holder) except -1:
    """Read the attributes of the resource, as far as they can be parsed."""
    cdef Failure failure
    cdef Told told
    cdef Piece body, within
    cdef uint64_t tag = 0, inner_tag = 0
    cdef Pos at = holder.whole.at, inner
    failure.what = NO_TROUBLE
    told.series, told.service, told.prefixes, told.noted = SEED, SEED, 0, 0
    told.notes, told.texts = holder.notes, NULL
    while next_field(&failure, &at, holder.whole.stop, &tag, &body):
        if tag != (1 << 3 | LENGTH):
            continue
        inner = body.at
        while next_field(&failure, &inner, body.stop, &inner_tag, &within):
            if inner_tag == (1 << 3 | LENGTH):
                attribute(walker, &walker.resource_keys, &failure, within.at, within.stop, &told)
    holder.series, holder.service = told.series, told.service
    return 0


cdef uint32_t enter_resource(Walker walker, Pos at, Pos stop, Failure *failure) except? 0xFFFFFFFF:
    """The number of this ResourceSpans; NOBODY if it cannot be read. A resource equal to the last one is not read again."""
    cdef Holder *holder
    cdef Holder *last
    cdef uint32_t number = walker.resource_count
    if number == walker.resource_room:
        walker.resources = <Holder *> grown(walker.resources, &walker.resource_room, FIRST_HOLDERS, sizeof(Holder))
    holder = walker.resources + number
    last = holder - 1 if number else NULL
    memset(holder, 0, sizeof(Holder))
    holder.whole.at, holder.whole.stop = at, stop
    if not tell(holder, failure):
        return NOBODY
    if last != NULL and holder.telling == 1 and last.telling == 1 and same(&holder.told, &last.told):
        holder.series, holder.service, holder.notes = last.series, last.service, last.notes
    else:
        read_resource(walker, holder)
    walker.resource_count += 1
    return number


cdef bint walk_scope(Walker walker, Failure *failure, Pos at, Pos stop, uint32_t resource) except -1:
    cdef uint64_t tag = 0
    cdef Piece body
    while next_field(failure, &at, stop, &tag, &body):
        if tag == (2 << 3 | LENGTH) and not walk_span(walker, failure, body.at, body.stop, resource):
            return False
    return at != NULL


cdef bint walk_resource(Walker walker, Failure *failure, Pos at, Pos stop) except -1:
    cdef uint32_t resource = enter_resource(walker, at, stop, failure)
    cdef uint64_t tag = 0
    cdef Piece body
    if resource == NOBODY:
        return False
    while next_field(failure, &at, stop, &tag, &body):
        if tag == (2 << 3 | LENGTH) and not walk_scope(walker, failure, body.at, body.stop, resource):
            return False
    return at != NULL


cdef bint walk_chunk(Walker walker, Pos at, Pos stop) except -1:
    """Walk over a TracesData. False if it cannot be read to its end."""
    cdef Failure failure
    cdef uint64_t tag = 0
    cdef Piece body
    failure.what = NO_TROUBLE
    while next_field(&failure, &at, stop, &tag, &body):
        if tag == (1 << 3 | LENGTH) and not walk_resource(walker, &failure, body.at, body.stop):
            return False
    return at != NULL


# Parents and repeated spans -----------------------------------------------------------------------------------------


cdef inline uint32_t slot_for(Walker walker, uint64_t id) noexcept nogil:
    """The slot of the first span with this id in the index, or the free slot where it belongs."""
    cdef uint32_t slot = (fold(id ^ SEED, ODD) >> 32) * walker.index_room >> 32
    while walker.index[slot] and walker.facts[walker.index[slot] - 1].span_id != id:
        slot += 1
        if slot == walker.index_room:
            slot = 0
    return slot


cdef void relate_few(Walker walker) noexcept nogil:
    cdef uint32_t child, other
    cdef Fact *fact
    for child in range(walker.count):
        fact = walker.facts + child
        for other in range(walker.count):
            if other < child and walker.facts[other].span_id == fact.span_id and same(&walker.facts[other].span, &fact.span):
                fact.again = True
            if fact.parent == NOBODY and fact.parent_id and walker.facts[other].span_id == fact.parent_id:
                fact.parent = other


cdef int relate_many(Walker walker) except -1:
    cdef uint32_t number, slot
    cdef Fact *first
    walker.index_room = walker.count * 2
    walker.index = <uint32_t *> calloc(walker.index_room, sizeof(uint32_t))
    if walker.index == NULL:
        raise MemoryError
    for number in range(walker.count):
        slot = slot_for(walker, walker.facts[number].span_id)
        if not walker.index[slot]:
            walker.index[slot] = number + 1
            continue
        first = walker.facts + walker.index[slot] - 1
        walker.facts[number].again = same(&first.span, &walker.facts[number].span) or is_twin_again(walker, number)
    for number in range(walker.count):
        if walker.facts[number].parent_id:
            walker.facts[number].parent = walker.index[slot_for(walker, walker.facts[number].parent_id)] - 1
    free(walker.index)
    free(walker.twins)
    walker.index = walker.twins = NULL
    return 0


cdef bint is_twin_again(Walker walker, uint32_t number) except -1:
    """Whether an earlier span is equal byte for byte, for a span that differs from the first span of its id.

    A span that is not a repetition is added to `twins`. Few traces have any, but an SDK with a fixed random seed may send
    ten thousand spans with one id, so they have a hash table of their own.
    """
    cdef Piece *span = &walker.facts[number].span
    cdef uint64_t hash = hashed(SEED, span.at, span.stop - span.at, SEED, ODD)
    cdef uint32_t slot = (hash >> 32) * walker.index_room >> 32
    if walker.twins == NULL:
        walker.twins = <uint32_t *> calloc(walker.index_room, sizeof(uint32_t))
        if walker.twins == NULL:
            raise MemoryError
    while walker.twins[slot]:
        if same(&walker.facts[walker.twins[slot] - 1].span, span):
            return True
        slot += 1
        if slot == walker.index_room:
            slot = 0
    walker.twins[slot] = number + 1
    return False


# Entry points -------------------------------------------------------------------------------------------------------


cdef list asked(keys, services, notes, texts):
    """(key, names, service, note, text) of each wanted key: see `Key`."""
    cdef list wanted = [*dict.fromkeys([*keys, *services, *notes])]
    return [
        (key.encode(), key in keys, key in services, place_in(notes, key), place_in(texts, key)) for key in wanted
    ]


cdef uint8_t place_in(keys, key):
    return keys.index(key) if key in keys else NO_NOTE


cdef class Walker:
    """Fills `facts` with the fields of each span of a trace that decide which series it belongs to.

    `Fact.series` hashes the span's kind and name, its attributes among `span_keys` and its resource's among
    `resource_keys` (the serialized KeyValue), and with `by_status` its status code. Spans of different series have
    different hashes; spans of one series may have several (attributes in another order). `Fact.bare` is the same hash
    without the span's name and the values of `texts`: only whether they are strings that are not empty.
    `Fact.service` hashes the attributes among `service_keys`, of the span or of its resource. `Fact.notes` points to the
    first attribute (KeyValue) of each key in `notes`. Of attributes that begin with one of the `prefixes` only the
    presence counts.

    At most 32 `prefixes`, four `notes`, and five `texts`, which have to be among `span_keys`; else ValueError.
    `resource` is called with a serialized Resource; its result is `around_of` a span.
    """

    def __cinit__(
        self, span_keys=(), resource_keys=(), *, prefixes=(), service_keys=(), notes=(), texts=(), bint by_status=False,
        resource=bytes,
    ):
        if len(notes) > MOST_NOTES or len(prefixes) > 32 or len(texts) > MOST_TEXTS:
            raise ValueError("at most four notes, five texts and 32 prefixes")
        spans = asked(span_keys, service_keys, notes, texts)
        resources = asked(resource_keys, service_keys, notes, ())
        starts = [(prefix.encode(), False, False, NO_NOTE, NO_NOTE) for prefix in prefixes]
        self.texts = (spans, resources, starts)
        self.held, self.around, self.resource = (), {}, resource
        self.by_status = by_status
        compile_keys(&self.span_keys, spans)
        compile_keys(&self.resource_keys, resources)
        compile_keys(&self.prefixes, starts)

    def __dealloc__(self):
        free(self.facts)
        free(self.resources)
        free(self.index)
        free(self.twins)
        free(self.span_keys.items)
        free(self.resource_keys.items)
        free(self.prefixes.items)

    cpdef uint32_t walk(self, list chunks) except? 0xFFFFFFFF:
        """Read the serialized TracesData of one trace. Returns the number of spans.

        Of a chunk that cannot be read to its end, the spans before the error are added. It increases `broken`.
        """
        cdef bytes chunk
        cdef Pos start
        self.forget()
        self.held = tuple(chunks)
        for chunk in self.held:
            start = <Pos> PyBytes_AS_STRING(chunk)
            if not walk_chunk(self, start, start + PyBytes_GET_SIZE(chunk)):
                self.broken += 1
        return self.count

    cpdef forget(self):
        """Release the chunks, and the memory that only a huge trace needs."""
        self.held = ()
        self.around = {}
        self.count = self.resource_count = 0
        if self.room > KEPT_FACTS or self.resource_room > KEPT_FACTS:
            free(self.facts)
            free(self.resources)
            self.facts, self.resources = NULL, NULL
            self.room = self.resource_room = 0

    cdef int relate(self) except -1:
        """Set each fact's `parent` and `again`. If different spans have the same id, the first of them is the parent."""
        if self.count <= FEW_SPANS:
            relate_few(self)
        else:
            relate_many(self)
        return 0

    cdef bytes span_bytes(self, Fact *fact):
        """The Span message."""
        return bytes_of(&fact.span)

    cdef object around_of(self, Fact *fact):
        """The result of `resource` for the span's Resource. Several Resource fields in one ResourceSpans are merged, as in
        protobuf. It is computed once per ResourceSpans: all its spans may be new series, and a Resource as long as a
        record."""
        cdef uint32_t number = fact.resource
        found = self.around.get(number)
        if found is None:
            found = self.around[number] = self.resource(told_of(self.resources + number))
        return found

    def facts_of(self, list chunks):
        """The facts as Python objects, for tests."""
        cdef uint32_t number
        cdef Fact *fact
        cdef list found = []
        self.walk(chunks)
        self.relate()
        for number in range(self.count):
            fact = self.facts + number
            found.append({
                "span_id": fact.span_id, "parent_id": fact.parent_id, "start_ns": fact.start_ns, "end_ns": fact.end_ns,
                "series": fact.series, "bare": fact.bare, "service": fact.service, "kind": fact.kind, "status": fact.status,
                "name": bytes_of(&fact.name), "trace_state": bytes_of(&fact.trace_state), "parent": fact.parent,
                "span": self.span_bytes(fact), "resource": told_of(self.resources + fact.resource), "notes": [bytes_of(&note) for note in fact.notes],
                "texts": [bytes_of(&text) for text in fact.texts],
            })
        self.forget()
        return found


cdef bytes told_of(Holder *holder):
    cdef Failure failure
    cdef Pos at = holder.whole.at
    cdef uint64_t tag = 0
    cdef Piece body
    cdef list parts = []
    failure.what = NO_TROUBLE
    while next_field(&failure, &at, holder.whole.stop, &tag, &body):
        if tag == (1 << 3 | LENGTH):
            parts.append(bytes_of(&body))
    return b"".join(parts)
