# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""`sql.normalised` in compiled form: the same regular expressions as one pass over the bytes and three over the result.

The expressions in `sql.py` are the reference; each function here names the part that it implements. It reads ASCII.
Other characters may occur in values and comments, which are removed. A statement with one anywhere else is left to `sql.py`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    enum { TSS_SPACE = 1, TSS_DIGIT = 2, TSS_LETTER = 4, TSS_STAYS = 8, TSS_HEX = 16, TSS_FOREIGN = 32 };
    static uint8_t tss_kinds[256];
    static void tss_sort_letters(void) {
        const char *hex = "0123456789abcdefABCDEF", *stays = ",=()<>*;|+", *spaces = " \\t\\n\\r\\f\\v\\x1c\\x1d\\x1e\\x1f";
        int at;
        for (at = 0; at < 256; at++)
            tss_kinds[at] = at >= 0x80 ? TSS_FOREIGN : at >= '0' && at <= '9' ? TSS_DIGIT
                : (at | 32) >= 'a' && (at | 32) <= 'z' || at == '_' ? TSS_LETTER : 0;
        for (; *hex; hex++) tss_kinds[(uint8_t) *hex] |= TSS_HEX;
        for (; *stays; stays++) tss_kinds[(uint8_t) *stays] |= TSS_STAYS;
        for (; *spaces; spaces++) tss_kinds[(uint8_t) *spaces] |= TSS_SPACE | TSS_STAYS;
    }
    """
    enum:
        SPACE "TSS_SPACE"
        DIGIT "TSS_DIGIT"
        LETTER "TSS_LETTER"
        STAYS "TSS_STAYS"
        HEX "TSS_HEX"
        FOREIGN "TSS_FOREIGN"
    const uint8_t[256] kinds "tss_kinds"
    void sort_letters "tss_sort_letters" () nogil

sort_letters()

cdef enum:
    NOTHING = 0  # beyond either end of the text


cdef struct Walk:
    const uint8_t *text
    Py_ssize_t size
    bint double_quoted  # whether double quotes enclose values
    bint foreign  # whether a character that is not ASCII was read outside of values and comments
    Py_ssize_t run_end  # where the word ends that `run` read last


cdef inline uint8_t at(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The character there. If it is not ASCII, the walk ends and the statement is left to `sql.py`."""
    cdef uint8_t found
    if place < 0 or place >= walk.size:
        return NOTHING
    found = walk.text[place]
    if found >= 0x80:
        walk.foreign = True
    return found


cdef inline bint is_in_word(Walk *walk, Py_ssize_t place) noexcept nogil:  # \w
    return kinds[at(walk, place)] & (LETTER | DIGIT) != 0


cdef inline bint is_digit(Walk *walk, Py_ssize_t place) noexcept nogil:  # \d
    return kinds[at(walk, place)] & DIGIT != 0


cdef inline Py_ssize_t after_word(Walk *walk, Py_ssize_t place) noexcept nogil:  # \w*+
    while is_in_word(walk, place):
        place += 1
    return place


cdef inline Py_ssize_t after_quoted(Walk *walk, Py_ssize_t place, uint8_t quote) noexcept nogil:
    """The place after a quoted identifier: `"[^"]*+"?+`."""
    place += 1
    while place < walk.size:
        if at(walk, place) == quote:
            return place + 1
        place += 1
    return place


cdef inline Py_ssize_t after_text(Walk *walk, Py_ssize_t place, uint8_t quote) noexcept nogil:
    """The place after a quoted value: `'(?:[^'\\\\]++|''|\\\\.?)*+'?+`."""
    cdef const uint8_t *text = walk.text
    place += 1
    while place < walk.size:
        if text[place] == quote:
            if place + 1 == walk.size or text[place + 1] != quote:
                return place + 1
            place += 1
        elif text[place] == c'\\':
            place += 1
        place += 1
    return walk.size


cdef inline bint stands_before(Walk *walk, Py_ssize_t place, const char *word, Py_ssize_t size) noexcept nogil:
    """Whether this word ends at the place, in any case. `word` is in lower case and may contain spaces."""
    cdef Py_ssize_t number
    cdef uint8_t letter
    if place < size:
        return False
    for number in range(size):
        letter = walk.text[place - size + number]
        if letter != <uint8_t> word[number] and (word[number] == c' ' or letter != <uint8_t> word[number] - 32):
            return False
    return True


cdef inline bint run(Walk *walk, Py_ssize_t place) noexcept nogil:
    """Whether a word begins there: `(?<![\\w$])[A-Za-z_][\\w$]*+(?!')`. Sets `run_end`."""
    cdef Py_ssize_t end = place
    cdef uint8_t before = NOTHING if place == 0 else walk.text[place - 1]
    if before == c'$' or kinds[before] & (LETTER | DIGIT):
        return False
    while end < walk.size and (kinds[walk.text[end]] & (LETTER | DIGIT) or walk.text[end] == c'$'):
        end += 1
    walk.run_end = end
    return at(walk, end) != c"'"


cdef Py_ssize_t after_staying(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after words, signs and identifiers that are kept; the same place if there is none."""
    cdef uint8_t found
    while place < walk.size:
        found = walk.text[place]
        if kinds[found] & STAYS:
            place += 1
        elif kinds[found] & LETTER:
            if not run(walk, place):
                return place
            place = walk.run_end
        elif found == c'.':
            if is_digit(walk, place + 1):
                return place
            place += 1
        elif found == c'`' or found == c'"' and not walk.double_quoted:
            place = after_quoted(walk, place, found)
        else:
            return place
    return place


cdef inline Py_ssize_t after_bracketed(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after an identifier in SQL Server's brackets; the same place if there is none: `\\[[A-Za-z_][^\\]\\[']*+\\]`."""
    cdef Py_ssize_t end = place + 1
    cdef uint8_t found
    if not kinds[at(walk, end)] & LETTER:
        return place
    while True:
        end += 1
        found = at(walk, end)
        if found == c']' and end < walk.size:
            return end + 1
        if end >= walk.size or found == c'[' or found == c"'":
            return place


cdef inline Py_ssize_t after_comment(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after a comment; the same place if there is none."""
    cdef const uint8_t *text = walk.text
    cdef Py_ssize_t end = place + 2
    cdef const uint8_t *found
    if end > walk.size:
        return place
    if text[place] == c'-' and text[place + 1] == c'-':
        found = <const uint8_t *> memchr(text + end, c'\n', walk.size - end)
        return walk.size if found == NULL else found - text
    if text[place] != c'/' or text[place + 1] != c'*':
        return place
    while end < walk.size:
        found = <const uint8_t *> memchr(text + end, c'*', walk.size - end)
        if found == NULL:
            break
        end = found - text + 1
        if end < walk.size and text[end] == c'/':
            return end + 1
    return walk.size


cdef inline Py_ssize_t after_literal(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after a quoted value with its prefix; the same place if there is none."""
    cdef Py_ssize_t start = place
    cdef uint8_t found = walk.text[place]
    if kinds[found] & LETTER and at(walk, place - 1) != c'$' and not is_in_word(walk, place - 1):
        if found == c'_' and is_in_word(walk, place + 1):
            start = after_word(walk, place + 1)
        elif found | 32 == c'n' or found | 32 == c'x' or found | 32 == c'b' or found | 32 == c'e':
            start = place + 1
    found = at(walk, start)
    if found == c"'":
        if (
            start + 2 < walk.size and walk.text[start + 1] == c'\\' and walk.text[start + 2] == c"'"
            and (start + 3 == walk.size or walk.text[start + 3] != c"'") and stands_before(walk, start, b"escape ", 7)
        ):
            return start + 3
        return after_text(walk, start, found)
    if found == c'"' and walk.double_quoted:
        return after_text(walk, start, found)
    return place


cdef inline bint is_sign(Walk *walk, Py_ssize_t place) noexcept nogil:
    """Whether a `-` there is the sign of a number, not an operator."""
    cdef uint8_t before, second
    if place == 0:
        return False
    before = walk.text[place - 1]
    if memchr(b"(,=<>*/%+|:[", before, 12) != NULL:
        return True
    if before != c' ' or place == 1:
        return False
    second = walk.text[place - 2]
    return memchr(b"(,=<>*/%+|", second, 10) != NULL or (
        stands_before(walk, place, b" and ", 5) or stands_before(walk, place, b"between ", 8)
        or stands_before(walk, place, b" then ", 6) or stands_before(walk, place, b" else ", 6)
        or stands_before(walk, place, b"select ", 7) or stands_before(walk, place, b"limit ", 6)
    )


cdef inline Py_ssize_t after_digits(Walk *walk, Py_ssize_t place, uint8_t kind) noexcept nogil:
    while kinds[at(walk, place)] & kind:
        place += 1
    return place


cdef Py_ssize_t after_number(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after a number with its sign; the same place if there is none."""
    cdef Py_ssize_t start = place, end, power
    cdef uint8_t before
    if walk.text[place] == c'-':
        if not is_sign(walk, place):
            return place
        start += 1
    elif place:
        before = at(walk, place - 1)
        if before == c'$' or before == c'.' or kinds[before] & (LETTER | DIGIT):
            return place
    if at(walk, start) == c'0' and at(walk, start + 1) | 32 == c'x':
        end = after_digits(walk, start + 2, HEX)
        if end > start + 2 and not is_in_word(walk, end):
            return end
    if at(walk, start) == c'0' and at(walk, start + 1) | 32 == c'b':
        end = start + 2
        while at(walk, end) == c'0' or at(walk, end) == c'1':
            end += 1
        if end > start + 2 and not is_in_word(walk, end):
            return end
    if is_digit(walk, start):
        end = start
        while is_digit(walk, end) or at(walk, end) == c'_':
            end += 1
        if at(walk, end) == c'.':
            end = after_digits(walk, end + 1, DIGIT)
    elif at(walk, start) == c'.' and is_digit(walk, start + 1):
        end = after_digits(walk, start + 1, DIGIT)
    else:
        return place
    if at(walk, end) | 32 == c'e':
        power = end + 1
        if at(walk, power) == c'+' or at(walk, power) == c'-':
            power += 1
        if is_digit(walk, power):
            end = after_digits(walk, power, DIGIT)
    return place if is_in_word(walk, end) else end


cdef Py_ssize_t after_dollar(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after `$1`, or after a value enclosed in `$tag$`; the same place if there is none."""
    cdef Py_ssize_t end = place + 1, tag
    cdef const uint8_t *found
    if is_in_word(walk, place - 1) or at(walk, place - 1) == c'$':
        return place
    if is_digit(walk, end):
        return after_digits(walk, end, DIGIT)
    end = after_word(walk, end)
    if at(walk, end) != c'$':
        return place
    tag = end + 1 - place  # the length with both `$`
    end += 1
    while end + tag <= walk.size:
        found = <const uint8_t *> memchr(walk.text + end, c'$', walk.size - end)
        if found == NULL or found - walk.text + tag > walk.size:
            break
        if memcmp(found, walk.text + place, tag) == 0:
            return found - walk.text + tag
        end = found - walk.text + 1
    return walk.size


cdef inline Py_ssize_t after_parameter(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after `:name`, `@name`, `%s` or `%(name)s`; the same place if there is none."""
    cdef uint8_t sign = walk.text[place], before = at(walk, place - 1)
    cdef Py_ssize_t end = after_word(walk, place + 1)
    if kinds[before] & (LETTER | DIGIT):
        return place
    if sign == c':':
        return place if before == c':' or before == c']' or before == c')' or before == c'?' else end if end > place + 1 else place
    if sign == c'@':
        return place if before == c'@' or end == place + 1 else end
    if end == place + 2 and walk.text[place + 1] == c's':
        return end
    if at(walk, place + 1) != c'(':
        return place
    end = after_word(walk, place + 2)
    return end + 2 if end > place + 2 and at(walk, end) == c')' and at(walk, end + 1) == c's' else place


cdef Py_ssize_t after_value(Walk *walk, Py_ssize_t place) noexcept nogil:
    """The place after a value, which `?` will replace; the same place if there is none."""
    cdef uint8_t found = walk.text[place]
    cdef Py_ssize_t end = place
    if found == c"'" or found == c'"' or kinds[found] & LETTER:
        return after_literal(walk, place)
    if found == c'-' or found == c'.' or kinds[found] & DIGIT:
        return after_number(walk, place)
    if found == c'$':
        return after_dollar(walk, place)
    if found == c':' or found == c'@' or found == c'%':
        return after_parameter(walk, place)
    return end


# The output, with single spaces --------------------------------------------------------------------------------------


cdef struct Bare:
    uint8_t *out
    Py_ssize_t size
    bint spaced  # white space was read, and nothing was written after it yet


cdef inline void put(Bare *bare, uint8_t letter) noexcept nogil:
    if kinds[letter] & SPACE:
        bare.spaced = True
        return
    if bare.spaced and bare.size:
        bare.out[bare.size] = c' '
        bare.size += 1
    bare.spaced = False
    bare.out[bare.size] = letter
    bare.size += 1


cdef Py_ssize_t bared(Walk *walk, uint8_t *out) noexcept nogil:
    """Write the statement with `?` for its values, without comments. Returns the number of bytes written."""
    cdef Py_ssize_t place = 0, end
    cdef Bare bare
    bare.out, bare.size, bare.spaced = out, 0, False
    while place < walk.size and not walk.foreign:
        end = after_staying(walk, place)
        if end == place and walk.text[place] == c'[':
            end = after_bracketed(walk, place)
        if end > place:
            while place < end:
                put(&bare, walk.text[place])
                place += 1
            continue
        end = after_comment(walk, place)
        if end > place:
            bare.spaced = True
        else:
            end = after_value(walk, place)
            if end > place:
                put(&bare, c'?')
            else:
                put(&bare, at(walk, place))
                end = place + 1
        place = end
    return bare.size


# Lists of values -----------------------------------------------------------------------------------------------------


cdef inline bint is_word_there(const uint8_t *text, Py_ssize_t size, Py_ssize_t place, const char *word, Py_ssize_t length) noexcept nogil:
    cdef Py_ssize_t number
    if place + length > size:
        return False
    for number in range(length):
        if text[place + number] | 32 != <uint8_t> word[number]:
            return False
    return place + length == size or not kinds[text[place + length]] & (LETTER | DIGIT)


cdef Py_ssize_t after_listed(const uint8_t *text, Py_ssize_t size, Py_ssize_t place) noexcept nogil:
    """The place after one value of a list with its cast; the same place if there is none: `_VALUE`."""
    cdef Py_ssize_t end
    if place >= size:
        return place
    if text[place] != c'?':
        if is_word_there(text, size, place, b"null", 4) or is_word_there(text, size, place, b"true", 4):
            return place + 4
        if is_word_there(text, size, place, b"false", 5):
            return place + 5
        return place + 7 if is_word_there(text, size, place, b"default", 7) else place
    place += 1
    if place + 2 >= size or text[place] != c':' or text[place + 1] != c':':
        return place
    end = place + 2
    while end < size and (kinds[text[end]] & (LETTER | DIGIT) or text[end] == c' '):
        end += 1
    if end == place + 2:
        return place
    if end + 3 <= size and memcmp(text + end, b"(?)", 3) == 0:
        end += 3
    if end + 2 <= size and memcmp(text + end, b"[]", 2) == 0:
        end += 2
    return end


cdef inline Py_ssize_t after_comma(const uint8_t *text, Py_ssize_t size, Py_ssize_t place) noexcept nogil:
    """The place after a comma with its spaces (` ?, ?`); -1 if there is none."""
    if place < size and text[place] == c' ':
        place += 1
    if place >= size or text[place] != c',':
        return -1
    place += 1
    return place + 1 if place < size and text[place] == c' ' else place


cdef Py_ssize_t after_list(const uint8_t *text, Py_ssize_t size, Py_ssize_t place, uint8_t closing) noexcept nogil:
    """The place after a list of values that begins there and may be cut off; the same place if there is none: `_LIST`."""
    cdef Py_ssize_t at = place + 1, end, comma
    if at < size and text[at] == c' ':
        at += 1
    end = after_listed(text, size, at)
    if end == at:
        return place
    while True:
        comma = after_comma(text, size, end)
        if comma < 0:
            break
        at = after_listed(text, size, comma)
        if at == comma:
            break
        end = at
    if end < size and text[end] == c' ':
        end += 1
    if end < size and text[end] == c',':
        end += 1
    if end < size and text[end] == c' ':
        end += 1
    if end == size:
        return end
    return end + 1 if text[end] == closing else place


cdef Py_ssize_t shortened(uint8_t *text, Py_ssize_t size, uint8_t opening, uint8_t closing) noexcept nogil:
    """Replace each list of values by `(?)`, in place. Returns the number of bytes left."""
    cdef Py_ssize_t place = 0, out = 0, end
    while place < size:
        if text[place] == opening:
            end = after_list(text, size, place, closing)
            if end > place:
                text[out], text[out + 1], text[out + 2] = opening, c'?', closing
                out += 3
                place = end
                continue
        text[out] = text[place]
        out += 1
        place += 1
    return out


cdef inline bint is_row(const uint8_t *text, Py_ssize_t size, Py_ssize_t place) noexcept nogil:
    return place >= 0 and place + 3 <= size and text[place] == c'(' and text[place + 1] == c'?' and text[place + 2] == c')'


cdef Py_ssize_t with_one_row(uint8_t *text, Py_ssize_t size) noexcept nogil:
    """Replace several rows of values by one: `_ROWS`. Returns the number of bytes left."""
    cdef Py_ssize_t place = 0, out = 0, comma
    while place < size:
        if is_row(text, size, place):
            text[out], text[out + 1], text[out + 2] = c'(', c'?', c')'
            out += 3
            place += 3
            comma = after_comma(text, size, place)
            while is_row(text, size, comma):
                place = comma + 3
                comma = after_comma(text, size, place)
            continue
        text[out] = text[place]
        out += 1
        place += 1
    return out


# Entry points --------------------------------------------------------------------------------------------------------


cdef Py_ssize_t without_values(const uint8_t *text, Py_ssize_t size, bint double_quoted, uint8_t *out) noexcept nogil:
    """Write the normalised statement, as `sql.normalised` returns it, to `out`. Returns the number of bytes written, or
    NOT_HERE for a statement that only `sql.normalised` can read.

    `text` is UTF-8 of at most `sql.MAX_LENGTH` characters, and `out` has room for `size + MORE_ROOM` bytes.
    """
    cdef Walk walk
    cdef Py_ssize_t length
    walk.text, walk.size, walk.foreign = text, size, False
    walk.double_quoted = double_quoted
    length = bared(&walk, out)
    if walk.foreign:
        return NOT_HERE
    if memchr(out, c'(', length) != NULL:
        length = with_one_row(out, shortened(out, length, c'(', c')'))
    if memchr(out, c'[', length) != NULL:
        length = shortened(out, length, c'[', c']')
    while length and (out[length - 1] == c' ' or out[length - 1] == c';'):
        length -= 1
    return length


def compiled(str text, bint double_quoted):
    """The normalised statement; None if only `sql.normalised` can read it."""
    cdef bytes given
    cdef bytearray out
    cdef Py_ssize_t size
    try:
        given = text.encode()
    except UnicodeEncodeError:
        return None
    out = bytearray(len(given) + MORE_ROOM)
    size = without_values(
        <const uint8_t *> PyBytes_AS_STRING(given), PyBytes_GET_SIZE(given), double_quoted, <uint8_t *> <char *> out
    )
    return None if size == NOT_HERE else out[:size].decode("ascii")
