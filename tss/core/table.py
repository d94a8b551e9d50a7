# cython: boundscheck=False, wraparound=False
"""A table of 64-bit numbers by 64-bit keys, without a Python object for an entry."""

from __future__ import annotations

from array import array

NOTHING = -1
SLOT_BYTES = 16
MIN_ROOM = 16
_LOW = 0xFFFFFFFF  # as a C number (table.pxd): written where it is used, Cython makes a Python integer of it
# A table is rebuilt when it is four fifths full, and then has this room for each entry that stays: so an entry takes 20
# to 30 bytes.
_ROOM_NUMBER, _ROOM_FRACTION = 15, 8


class Table:
    """Open addressing. No entry is removed: one that is out of date gives way when the table is rebuilt."""

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
        """Memory taken by the slots."""
        return self._room * SLOT_BYTES

    def _make(self, room: int) -> None:
        self._room = room
        self._most = room * 4 // 5
        self._keys = array("q", bytes(8)) * room
        self._values = array("q", bytes(8)) * room

    def is_full(self) -> bool:
        """Whether the next new entry makes it be rebuilt."""
        return self._used >= self._most

    def get(self, key: int) -> int:
        """The value, or NOTHING. A key is not 0, which marks an empty slot."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] else NOTHING

    def put(self, key: int, value: int, floor: int) -> None:
        """Enter or replace. If the table has to be rebuilt, entries with a value below ``floor`` are left out."""
        slot = self._slot(key)
        if not self._keys[slot]:
            if self._used >= self._most:
                self._rebuild(floor)
                slot = self._slot(key)
            self._keys[slot] = key
            self._used += 1
        self._values[slot] = value

    def replace(self, key: int, value: int) -> None:
        """Give another value to a key that has one."""
        self._values[self._slot(key)] = value

    def _slot(self, key: int) -> int:
        """Where the key stands, or the empty slot where it would."""
        slot = ((key >> 8) & _LOW) * self._room >> 32  # the last bits choose among tables
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
    """The interpreter's own keyed hash, so that no choice of trace ids can fill one place; never 0."""
    return hash(trace_id) or 1
