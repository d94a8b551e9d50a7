# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A bounded memory of answers by the hash of a value: open addressing, doubled up to a given size in bytes.

When it is full, one half of its slots is cleared, the other half the next time. A search may then end too early at a slot
that became free: that costs an answer that is asked again, and never gives a wrong one.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef enum:
    FIRST_ENTRIES = 256


cdef void set_up(Memo *memo, uint64_t most_bytes):
    """An empty memory, which may take so many bytes; at least room for `FIRST_ENTRIES`. Its seed differs in each process, like the seed of Python's own hashes, so that nobody can choose
    values with the same hash."""
    cdef int number
    memset(memo, 0, sizeof(Memo))
    memo.most = FIRST_ENTRIES
    while memo.most < 1 << 24 and 2 * <uint64_t> memo.most * sizeof(Entry) <= most_bytes:
        memo.most *= 2
    for number in range(4):
        memo.seed[number] = <uint64_t> <Py_ssize_t> hash(f"tss.core.otlp.memo {number}")


cdef uint64_t memo_bytes(Memo *memo) noexcept nogil:
    """Its memory in bytes."""
    return <uint64_t> memo.room * sizeof(Entry)


cdef void put(Memo *memo, uint64_t hash, uint64_t trues, uint64_t errors) noexcept nogil:
    """Note the answers for a value. Without memory for more they take the place of others."""
    if memo.used >= memo.room // 8 * 7 and not grow(memo):
        if memo.room == 0:
            return
        clear_half(memo)
    enter(memo, hash, trues, errors)


cdef void enter(Memo *memo, uint64_t hash, uint64_t trues, uint64_t errors) noexcept nogil:
    cdef uint32_t slot = (hash >> 32) & (memo.room - 1)
    while memo.entries[slot].hash and memo.entries[slot].hash != hash:
        slot = (slot + 1) & (memo.room - 1)
    memo.used += memo.entries[slot].hash == 0
    memo.entries[slot].hash, memo.entries[slot].trues, memo.entries[slot].errors = hash, trues, errors


cdef bint grow(Memo *memo) noexcept nogil:
    """Double the room. False if it has all that it may have, or there is no memory."""
    cdef uint32_t before = memo.room, number
    cdef Entry *old = memo.entries
    cdef Entry *entries
    cdef uint32_t room = before * 2 if before else FIRST_ENTRIES
    if room > memo.most:
        return False
    entries = <Entry *> calloc(room, sizeof(Entry))
    if entries == NULL:
        return False
    memo.entries, memo.room, memo.used = entries, room, 0
    for number in range(before):
        if old[number].hash:
            enter(memo, old[number].hash, old[number].trues, old[number].errors)
    free(old)
    return True


cdef void clear_half(Memo *memo) noexcept nogil:
    cdef uint32_t half = memo.room // 2, number
    memset(memo.entries + (half if memo.upper else 0), 0, half * sizeof(Entry))
    memo.upper = not memo.upper
    memo.used = 0
    for number in range(memo.room):
        memo.used += memo.entries[number].hash != 0
