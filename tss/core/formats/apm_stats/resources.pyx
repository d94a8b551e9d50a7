# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Numbers for series whose spans may each have another resource: a statement with values, a name or route with an id.

Python reads the common part (`groups.template_of`) once for all spans that differ only in these texts. The text itself is
cut, obfuscated and looked up by its hash here, so a statement with another literal needs no Python.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy, memset

from tss.core.compression.sqltext cimport MORE_ROOM, NOT_HERE, without_values
from tss.core.formats.apm_stats.hashing cimport fold, hashed
from tss.core.formats.apm_stats.series cimport MISSING, NAMELESS, OVERFLOW, HashTable, bytes_of_name
from tss.core.formats.apm_stats.walk cimport MOST_TEXTS, Fact, Piece, Walker

from tss.core.compression import sql
from tss.core.formats.datadog import obfuscation
from tss.core.formats.datadog.values import MAX_RESOURCE
from tss.core.formats.apm_stats import groups as grouping

cdef enum:  # the same numbers as in `groups` and `obfuscation`
    OWN_NAME = 1
    FIRST_TEXT = 2
    AS_IS = 0
    SQL = 1
    SQL_DOUBLE_QUOTED = 2
    COMMANDS = 3
    MOST_TEMPLATES = 65536
    FIRST_TEMPLATES = 64
    SERIES_BYTES = 200  # of a series without its text: the entries in two tables and a list, and the objects
    MORE_MISSES = 4096
    SEEN_LATELY = 4096  # a power of two; 64 KiB for series that were seen lately
    CHARACTER_BYTES = 4  # of UTF-8, at most

cdef Py_ssize_t MOST_TEXT = MAX_RESOURCE
cdef Py_ssize_t MOST_STATEMENT = sql.MAX_LENGTH
cdef Py_ssize_t SCRATCH_BYTES = MAX_RESOURCE + MORE_ROOM
cdef bytes UNREADABLE = obfuscation.UNREADABLE.encode()
cdef uint64_t SEED = <uint64_t> <Py_ssize_t> hash("tss.core.formats.apm_stats.resources")
cdef uint64_t ODD = <uint64_t> <Py_ssize_t> hash("tss.core.formats.apm_stats.resources, odd") | 1


# Texts --------------------------------------------------------------------------------------------------------------


cdef inline bint continues(uint8_t byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef bint is_utf8(const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """Whether these bytes are valid UTF-8, without surrogates and overlong forms."""
    cdef const uint8_t *stop = at + size
    cdef uint64_t word
    while at < stop:
        if stop - at >= 8:
            memcpy(&word, at, 8)
            if not word & 0x8080808080808080u:
                at += 8
                continue
        if at[0] < 0x80:
            at += 1
        elif at[0] < 0xC2:
            return False
        elif at[0] < 0xE0:
            if stop - at < 2 or not continues(at[1]):
                return False
            at += 2
        elif at[0] < 0xF0:
            if stop - at < 3 or not continues(at[1]) or not continues(at[2]):
                return False
            if at[0] == 0xE0 and at[1] < 0xA0 or at[0] == 0xED and at[1] > 0x9F:
                return False
            at += 3
        elif at[0] < 0xF5:
            if stop - at < 4 or not continues(at[1]) or not continues(at[2]) or not continues(at[3]):
                return False
            if at[0] == 0xF0 and at[1] < 0x90 or at[0] == 0xF4 and at[1] > 0x8F:
                return False
            at += 4
        else:
            return False
    return True


cdef Py_ssize_t cut(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """How many bytes of the text `values.cut` keeps."""
    if size <= MOST_TEXT:
        return size
    size = MOST_TEXT
    while size and continues(text[size]):
        size -= 1
    return size


cdef Py_ssize_t head_of(const uint8_t *text, Py_ssize_t size) noexcept nogil:
    """The length in bytes of the characters that `sql.normalised` reads."""
    cdef Py_ssize_t place, characters = 0
    if size <= MOST_STATEMENT:
        return size
    for place in range(size):
        if not continues(text[place]):
            if characters == MOST_STATEMENT:
                return place
            characters += 1
    return size


cdef Py_ssize_t statement(const uint8_t *text, Py_ssize_t size, bint double_quoted, uint8_t *out) noexcept nogil:
    """Write what `obfuscation.resource` returns for a statement. Returns the number of bytes, or NOT_HERE if only Python can
    read it."""
    cdef Py_ssize_t head = head_of(text, size), length
    length = without_values(text, head, double_quoted or memchr(text, c'`', size) != NULL, out)
    if length != NOT_HERE and head < size:
        memcpy(out + length, b"...", 3)
        length += 3
    return length


cdef inline bint is_space(uint8_t byte) noexcept nogil:  # as for Python's `str.split`
    return byte == c' ' or 9 <= byte <= 13 or 0x1C <= byte <= 0x1F


cdef inline bint is_word(const uint8_t *word, const char *other, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t number
    for number in range(size):
        if word[number] | 32 != <uint8_t> other[number]:
            return False
    return True


cdef inline bint of_two_words(const uint8_t *word, Py_ssize_t size) noexcept nogil:
    if size == 5:
        return is_word(word, b"debug", 5)
    if size == 6:
        return is_word(word, b"client", 6) or is_word(word, b"config", 6) or is_word(word, b"script", 6)
    return size == 7 and (is_word(word, b"cluster", 7) or is_word(word, b"command", 7))


cdef Py_ssize_t commands(const uint8_t *text, Py_ssize_t size, uint8_t *out) noexcept nogil:
    """Write what `obfuscation.resource` returns for commands. Returns the number of bytes, or NOT_HERE if only Python can
    read them."""
    cdef Py_ssize_t place = 0, line_end, start, length = 0, before, said = 0, words
    cdef const uint8_t *found
    cdef bint cut_off = False, first_of_two
    while place <= size:
        found = <const uint8_t *> memchr(text + place, c'\n', size - place) if place < size else NULL
        line_end = size if found == NULL else found - text
        before, words, first_of_two = length, 0, True
        while words < 2 and first_of_two:
            while place < line_end and is_space(text[place]):
                place += 1
            start = place
            while place < line_end and not is_space(text[place]):
                if text[place] >= 0x80:
                    return NOT_HERE
                place += 1
            if place == start:
                break
            if words == 0:
                cut_off = False
            if length:
                out[length] = c' '
                length += 1
            first_of_two = of_two_words(text + start, place - start)
            cut_off = cut_off or place - start >= 3 and (
                text[place - 1] == c'.' and text[place - 2] == c'.' and text[place - 3] == c'.'
            )
            while start < place:
                out[length] = text[start] - 32 if c'a' <= text[start] <= c'z' else text[start]
                length += 1
                start += 1
            words += 1
        if words:
            if cut_off:
                length = before
            else:
                said += 1
        if said == 3:
            break
        place = line_end + 1
    if cut_off or said == 3:
        if length:
            out[length] = c' '
            length += 1
        memcpy(out + length, b"...", 3)
        length += 3
    return length


# Series ------------------------------------------------------------------------------------------------------


cdef class Resources:
    """Numbers for series of spans. Number 0 is `overflow`, for new series after `most` series, or `most_bytes` of names.
    Numbers are valid until `clear`.

    Between two calls of `rest`, Python reads at most `2 * most + MORE_MISSES` spans, and at most MORE_MISSES of them after
    the room is used up. After that every new series is `overflow`, so that hostile traffic cannot take unlimited time.
    """

    def __cinit__(self, overflow, uint32_t most, uint64_t most_bytes):
        self.overflow, self.most, self.most_bytes = overflow, most, most_bytes
        self.templates, self.series, self.others = HashTable(), HashTable(), HashTable()
        self.scratch = <uint8_t *> malloc(SCRATCH_BYTES)
        self.whole = <uint8_t *> malloc(MOST_TEXT + CHARACTER_BYTES)
        self.lately = <Lately *> malloc(SEEN_LATELY * sizeof(Lately))
        if self.scratch == NULL or self.whole == NULL or self.lately == NULL:
            raise MemoryError
        self.clear()

    def __dealloc__(self):
        free(self.items)
        free(self.scratch)
        free(self.whole)
        free(self.lately)

    cdef int clear(self) except -1:
        """Forget all series. Their numbers are no longer valid."""
        self.templates.clear()
        self.series.clear()
        self.others.clear()
        self.frames, self.shapes, self.names = {}, [None], [None]
        self.befores, self.before = {b"": 0}, [b""]
        self.text_bytes = 0
        self.used = 0
        memset(self.lately, 0, SEEN_LATELY * sizeof(Lately))
        return 0

    cdef int rest(self) except -1:
        """Begin the next interval. If more than half of the room is used, forget all series."""
        if len(self.names) * 2 > self.most or self.text_bytes * 2 > self.most_bytes:
            self.clear()
        self.misses = self.vain = 0
        return 0

    cdef bint is_full(self) noexcept:
        return <uint64_t> len(self.names) > self.most or self.text_bytes >= self.most_bytes

    cdef void missed(self) noexcept:
        self.misses += 1
        self.vain += self.is_full()

    cdef bint is_tired(self) noexcept:
        return self.vain >= MORE_MISSES or self.misses >= <uint64_t> self.most * 2 + MORE_MISSES

    cdef uint32_t number(self, Walker walker, Fact *fact) except? 0xFFFFFFFE:
        """The number of the span's series; NAMELESS if the span's name cannot be read."""
        cdef Lately *lately = self.lately + (fact.series & (SEEN_LATELY - 1))
        cdef uint32_t found
        if lately.series == fact.series:
            return lately.number
        found = self.templates.find(fact.bare)
        if found == MISSING:
            if self.is_tired():
                return OVERFLOW
            found = self.template(walker, fact)
            if found == NAMELESS:  # this may differ for the next span with the same hash
                return NAMELESS
        if self.items[found].source == 0:
            found = self.items[found].series
        elif self.items[found].frame == 0:
            return OVERFLOW
        else:
            found = self.by_text(self.items + found, walker, fact)
        if found != NAMELESS and (found != OVERFLOW or self.is_full()):  # OVERFLOW is final only while there is no room
            lately.series, lately.number = fact.series, found
        return found

    cdef uint32_t template(self, Walker walker, Fact *fact) except? 0xFFFFFFFE:
        """Have Python make the template of a span, and store it for all spans with the same `Fact.bare`."""
        cdef uint32_t number, present = 0
        cdef Template made
        cdef bytes text
        cdef Template *items
        self.missed()
        for number in range(MOST_TEXTS):
            present |= <uint32_t> (fact.texts[number].at != NULL) << number
        found = grouping.template_of(walker.span_bytes(fact), walker.around_of(fact), present)
        if found is None:
            return NAMELESS
        name, made.source, made.making, resource = found
        made.frame, made.series, made.before = self.frame(name), OVERFLOW, 0
        text = resource.encode(errors="replace")
        if made.source == 0 and made.frame:
            made.series = self.entered(made.frame, text, len(text))
        elif made.frame:
            made.before = self.number_before(text[:MOST_TEXT + CHARACTER_BYTES])
            if made.before == MISSING:
                made.frame = made.before = 0
        if self.used == MOST_TEMPLATES:
            self.templates.clear()
            self.used = 0
        if self.used == self.room:
            number = self.room * 2 or FIRST_TEMPLATES
            items = <Template *> realloc(self.items, number * sizeof(Template))
            if items == NULL:
                raise MemoryError
            self.items, self.room = items, number
        number = self.used
        self.items[number] = made
        self.templates.enter(fact.bare, number)
        self.used += 1
        return number

    cdef uint32_t number_before(self, bytes text) except? 0xFFFFFFFE:
        """The number of the part before a text; MISSING if there is no room for a new one."""
        found = self.befores.get(text)
        if found is not None:
            return found
        if self.text_bytes >= self.most_bytes:
            return MISSING
        self.befores[text] = len(self.before)
        self.before.append(text)
        self.text_bytes += bytes_of_name(text)
        return self.befores[text]

    cdef uint32_t frame(self, name) except? 0xFFFFFFFE:
        """The number of a name without its resource; 0 if there is no room for a new one."""
        cdef uint32_t number
        found = self.frames.get(name)
        if found is not None:
            return found
        if self.is_full():
            return 0
        number = self.frames[name] = len(self.shapes)
        self.shapes.append(name)
        self.text_bytes += bytes_of_name(name)
        return number

    cdef uint32_t by_text(self, Template *template, Walker walker, Fact *fact) except? 0xFFFFFFFE:
        cdef Piece *piece = &fact.name if template.source == OWN_NAME else &fact.texts[template.source - FIRST_TEXT]
        cdef const uint8_t *text = piece.at
        cdef Py_ssize_t size = piece.stop - piece.at, length
        if not is_utf8(text, size):
            return self.by_python(walker, fact)
        if template.before:
            size = self.join(self.before[template.before], text, size)
            text = self.whole
        size = cut(text, size)
        if template.making == AS_IS:
            return self.entered(template.frame, text, size)
        if template.making == COMMANDS:
            length = commands(text, size, self.scratch)
        else:
            length = statement(text, size, template.making == SQL_DOUBLE_QUOTED, self.scratch)
        if length == NOT_HERE:
            return self.by_python(walker, fact)
        if length == 0 and template.making != COMMANDS:
            return self.entered(template.frame, UNREADABLE, len(UNREADABLE))
        return self.entered(template.frame, self.scratch, length)

    cdef Py_ssize_t join(self, bytes before, const uint8_t *text, Py_ssize_t size) noexcept:
        """Write both parts to `whole`, as far as `cut` may read them. Returns the number of bytes."""
        cdef Py_ssize_t first = len(before)
        cdef Py_ssize_t second = min(size, MOST_TEXT + CHARACTER_BYTES - first)
        memcpy(self.whole, <const char *> before, first)
        memcpy(self.whole + first, text, second)
        return first + second

    cdef uint32_t by_python(self, Walker walker, Fact *fact) except? 0xFFFFFFFE:
        """The number of the series of a span whose text only Python can read."""
        cdef uint32_t number = self.others.find(fact.series)
        cdef bytes text
        if number != MISSING:
            return number
        if self.is_tired():
            return OVERFLOW
        self.missed()
        name = grouping.name_of(walker.span_bytes(fact), walker.around_of(fact))
        if name is None:
            return NAMELESS
        text = name.resource.encode(errors="replace")
        number = self.frame(name._replace(resource=""))
        number = self.entered(number, text, len(text)) if number else OVERFLOW
        self.others.enter(fact.series, number)
        return number

    cdef uint32_t entered(self, uint32_t frame, const uint8_t *text, Py_ssize_t size) except? 0xFFFFFFFE:
        """The number of this series, which is added if there is room; else OVERFLOW."""
        # Frame and size are both small numbers. The frame is folded first: a plain xor could make two pairs equal.
        cdef uint64_t hash = hashed(fold(SEED ^ frame, ODD), text, size, SEED, ODD) or 1
        cdef uint32_t number = self.series.find(hash)
        if number != MISSING:
            return number
        if self.is_full():
            return OVERFLOW
        number = len(self.names)
        self.names.append((frame, (<const char *> text)[:size]))
        self.text_bytes += SERIES_BYTES + size
        self.series.enter(hash, number)
        return number

    cdef object name_of(self, uint32_t number):
        """The Name of a series."""
        if number == OVERFLOW:
            return self.overflow
        frame, text = self.names[number]
        return self.shapes[frame]._replace(resource=text.decode())
