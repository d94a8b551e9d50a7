# cython: boundscheck=False, wraparound=False
"""A table of 64-bit numbers by 64-bit keys, without a Python object for an entry."""

from __future__ import annotations

from array import array

NOTHING = -1
SLOT_BYTES = 16
MIN_ROOM = 16
_LOW = 0xFFFFFFFF  # a C number (table.pxd): as a literal, Cython would make a Python integer of it
# A table is rebuilt when it is four fifths full. It then gets 15/8 slots for each entry that stays, so an entry takes 20 to
# 30 bytes.
_ROOM_NUMBER, _ROOM_FRACTION = 15, 8


class Table:
    """Open addressing. Entries are never removed one by one: a rebuild leaves out those that are out of date."""

    __slots__ = ("_keys", "_most", "_room", "_used", "_values")

    def __init__(self) -> None:
        self._used = 0
        self._make(MIN_ROOM)

    def __repr__(self) -> str:
        return f"<Table {self._used} of {self._room}>"

    def __len__(self) -> int:
        return self._used

    @property
    def held_bytes(self) -> int:
        """The memory of the slots in bytes."""
        return self._room * SLOT_BYTES

    def _make(self, room: int) -> None:
        self._room = room
        self._most = room * 4 // 5
        self._keys = array("q", bytes(8)) * room
        self._values = array("q", bytes(8)) * room

    def is_full(self) -> bool:
        """Whether the next new entry causes a rebuild."""
        return self._used >= self._most

    def get(self, key: int) -> int:
        """The value, or NOTHING. A key is never 0, because 0 marks an empty slot."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] else NOTHING

    def put(self, key: int, value: int, floor: int) -> None:
        """Enter or replace a value. If this causes a rebuild, entries with a value below ``floor`` are left out."""
        slot = self._slot(key)
        if not self._keys[slot]:
            if self._used >= self._most:
                self._rebuild(floor)
                slot = self._slot(key)
            self._keys[slot] = key
            self._used += 1
        self._values[slot] = value

    def replace(self, key: int, value: int) -> None:
        """Replace the value of a key that is in the table."""
        self._values[self._slot(key)] = value

    def _slot(self, key: int) -> int:
        """The slot of the key, or the empty slot for it."""
        slot = ((key >> 8) & _LOW) * self._room >> 32  # without the lowest bits: they choose among several tables
        while self._keys[slot] and self._keys[slot] != key:
            slot += 1
            if slot == self._room:
                slot = 0
        return slot

    def _rebuild(self, floor: int) -> None:
        keys, values, room = self._keys, self._values, self._room
        staying = 0
        for at in range(room):
            if keys[at] and values[at] >= floor:
                staying += 1
        self._make(max(MIN_ROOM, staying * _ROOM_NUMBER // _ROOM_FRACTION))
        self._used = staying
        for at in range(room):
            if keys[at] and values[at] >= floor:
                slot = self._slot(keys[at])
                self._keys[slot] = keys[at]
                self._values[slot] = values[at]


def key_of(trace_id: bytes) -> int:
    """The interpreter's keyed hash, never 0. It is keyed, so that nobody can choose trace ids that collide."""
    return hash(trace_id) or 1
