"""Makes one automaton of many regular expressions: it reads a text once, letter by letter, and knows which of them match.

RE2 does the same, but only behind a call through Python, which takes longer than to read a short text. An automaton is a table
that the scanner walks in C. It knows ASCII only: RE2 answers for any other text, and for patterns whose automaton is too large.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import final

import attrs

from tss.core.conditions import expressions
from tss.core.conditions.expressions import Either, Joined, Letters, Node, One, Repeated, Start, UnknownSyntaxError

MOST_CELLS = 1 << 15  # of a table, of two bytes each: small enough for the processor's second cache
MOST_STEPS = 1_000_000  # for all automata of a program: some 0.3 s
_MOST_STATES = 2000  # of the expressions as they are written
_MOST_AUTOMATA = 4  # of a field: each reads the text once
_LETTERS = 128  # of ASCII

UNKNOWN = 0
"""The state after a letter beyond ASCII."""


@final
@attrs.frozen
class Texts:
    """How a test answers for a text that is not empty: TRUE if one of these RE2 expressions has a match in it, else FALSE. A
    negated one answers the other way round."""

    patterns: tuple[str, ...]
    is_negated: bool = False


@final
@attrs.frozen
class Automaton:
    """A table for some tests. Each state has `1 << shift` cells, and is numbered by the first of them."""

    tests: tuple[int, ...]
    """The numbers of its tests."""
    classes: bytes
    """By byte its column. Letters for which all states do the same have one column."""
    shift: int
    start: int
    finals: int
    """No letter changes the answer of the states below."""
    table: array[int]
    """By state and column the next state."""
    found: tuple[int, ...]
    """By state, numbered from 0 on, a bit for each of `tests`: those that have a match in the text so far."""

    def answer(self, text: bytes) -> int | None:
        """The bits of the tests that have a match in a text that is not empty; None if RE2 has to be asked. The scanner does
        the same in C."""
        state = self.start
        for letter in text:
            state = self.table[state + self.classes[letter]]
            if state < self.finals:
                break
        return None if state == UNKNOWN else self.found[state >> self.shift]


class _TooLargeError(Exception):
    """The automaton would be too large."""


class Maker:
    """Makes automata, as long as all of them together take no more than `MOST_STEPS`."""

    def __init__(self) -> None:
        self._left = MOST_STEPS

    def automata(self, tests: Sequence[Texts | None]) -> list[Automaton]:
        """A few automata for some of these tests. Those that are in none are left to RE2."""
        trees: dict[int, list[Node]] = {}
        for number, test in enumerate(tests):
            with suppress(UnknownSyntaxError):
                if test is not None:
                    trees[number] = [expressions.read(pattern) for pattern in test.patterns]
        return [*islice(self._made(trees), _MOST_AUTOMATA)]

    def _made(self, trees: dict[int, list[Node]]) -> Iterator[Automaton]:
        """One automaton, or else those of the two halves."""
        if not trees:
            return
        numbers = [*trees]
        try:
            network = _Network([trees[number] for number in numbers], self._spend)
            yield _Table(network).automaton(tuple(numbers))
        except _TooLargeError:
            half = len(numbers) // 2
            for part in (numbers[:half], numbers[half:]) if half else ():
                yield from self._made({number: trees[number] for number in part})

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooLargeError


_States = int
"""A set of states, a bit for each."""


class _Network:
    """The expressions as states: each reads a letter and leads to the next one, or leads to others without reading."""

    def __init__(self, tests: Sequence[Sequence[Node]], spend: Callable[[int], None]) -> None:
        self.spend = spend
        self.reads: list[Letters | None] = []  # by state; None: it leads on without reading
        self.leads: list[list[int]] = []
        self.starts: set[int] = set()  # those that lead on at the start of a text only
        self.ends: set[int] = set()  # ... at its end only
        self.owned: list[_States] = []  # by test, all of its states
        self.matches = [self._state([]) for _ in tests]
        self.entries = []  # by test
        for number, nodes in enumerate(tests):
            before = len(self.reads)
            entry = self._state([self._written(node, self.matches[number]) for node in nodes])
            self.entries.append(entry)
            self.owned.append((1 << len(self.reads)) - (1 << before) | 1 << self.matches[number])

    def _state(self, leads: list[int], reads: Letters | None = None) -> int:
        if len(self.reads) >= _MOST_STATES:
            raise _TooLargeError
        self.reads.append(reads)
        self.leads.append(leads)
        return len(self.reads) - 1

    def _written(self, node: Node, then: int) -> int:
        """The first state of a node, after which `then` follows."""
        match node:
            case One(of):
                return self._state([then], of)
            case Joined(parts):
                for part in reversed(parts):
                    then = self._written(part, then)
                return then
            case Either(parts):
                return self._state([self._written(part, then) for part in parts])
            case Repeated():
                return self._repeated(node, then)
        state = self._state([then])
        (self.starts if isinstance(node, Start) else self.ends).add(state)
        return state

    def _repeated(self, node: Repeated, then: int) -> int:
        if node.most is None:
            loop = self._state([then])
            self.leads[loop].append(self._written(node.of, loop))
            then = loop
        else:
            end = then
            for _ in range(node.most - node.least):
                then = self._state([self._written(node.of, then), end])
        for _ in range(node.least):
            then = self._written(node.of, then)
        return then

    def reached(self, states: _States, *, at_start: bool, at_end: bool) -> _States:
        """All states that these lead to without reading, themselves included."""
        found, waiting = 0, [*_members(states)]
        while waiting:
            state = waiting.pop()
            if found >> state & 1:
                continue
            found |= 1 << state
            self.spend(1)
            blocked = (state in self.starts and not at_start) or (state in self.ends and not at_end)
            if self.reads[state] is None and not blocked:
                waiting += self.leads[state]
        return found


def _members(states: _States) -> Iterator[int]:
    while states:
        lowest = states & -states
        yield lowest.bit_length() - 1
        states ^= lowest


_Key = tuple[_States, int]
"""A state of the automaton: the states of the network that are reached, and a bit for each test that has a match already."""


class _Table:
    """Joins the states of a network that can be reached at once to one."""

    def __init__(self, network: _Network) -> None:
        self._network = network
        self._classes, samples = self._split()
        self._reading = [
            sum(1 << state for state, reads in enumerate(network.reads) if reads is not None and reads >> sample & 1)
            for sample in samples
        ]
        self._shift = len(samples).bit_length()  # one more column than letters: for those beyond ASCII
        self._kept = sum(1 << state for state, reads in enumerate(network.reads) if reads is not None)
        self._kept |= sum(1 << state for state in network.ends)
        # What is reached after a letter was read, by the state that read it.
        self._after = [
            0 if reads is None else self._reached(1 << network.leads[state][0])
            for state, reads in enumerate(network.reads)
        ]
        self._entries = [self._reached(1 << entry) for entry in network.entries]

    def _reached(self, states: _States) -> _States:
        return self._network.reached(states, at_start=False, at_end=False)

    def _split(self) -> tuple[list[int], list[int]]:
        """The class of each letter, and one letter of each class."""
        sets = {reads for reads in self._network.reads if reads is not None}
        known: dict[tuple[int, ...], int] = {}
        samples, classes = list[int](), list[int]()
        for letter in range(_LETTERS):
            within = tuple(reads >> letter & 1 for reads in sets)
            if within not in known:
                known[within] = len(samples)
                samples.append(letter)
            classes.append(known[within])
        return classes, samples

    def _key(self, states: _States, matched: int) -> _Key:
        """With a test that has a match nothing more happens."""
        for number, match in enumerate(self._network.matches):
            if states >> match & 1:
                matched |= 1 << number
        for number, owned in enumerate(self._network.owned):
            if matched >> number & 1:
                states &= ~owned
        return states & self._kept, matched

    def _next(self, key: _Key, column: int) -> _Key:
        states, matched = key
        found, moving = 0, states & self._reading[column]
        self._network.spend(1 + moving.bit_count())
        for state in _members(moving):
            found |= self._after[state]
        for number, entry in enumerate(self._entries):
            if not matched >> number & 1:
                found |= entry
        return self._key(found, matched)

    def _found(self, key: _Key) -> int:
        """The tests that have a match in a text that ends here."""
        return self._key(self._network.reached(key[0], at_start=False, at_end=True), key[1])[1]

    def _is_final(self, key: _Key, row: list[_Key]) -> bool:
        states, matched = key
        return states == 0 and (matched == (1 << len(self._entries)) - 1 or all(each == key for each in row))

    def automaton(self, tests: tuple[int, ...]) -> Automaton:
        """Raises _TooLargeError."""
        entries = sum(1 << entry for entry in self._network.entries)
        start = self._key(self._network.reached(entries, at_start=True, at_end=False), 0)
        rows: dict[_Key, list[_Key]] = {}
        waiting = [start]
        while waiting:
            key = waiting.pop()
            if key in rows:
                continue
            if len(rows) + 2 > MOST_CELLS >> self._shift:
                raise _TooLargeError
            rows[key] = [self._next(key, column) for column in range(len(self._reading))]
            waiting += [each for each in rows[key] if each not in rows]
        return self._numbered(tests, start, rows)

    def _numbered(self, tests: tuple[int, ...], start: _Key, rows: dict[_Key, list[_Key]]) -> Automaton:
        """The table: first UNKNOWN, then the final states."""
        ordered = sorted(rows, key=lambda key: not self._is_final(key, rows[key]))
        finals = sum(self._is_final(key, rows[key]) for key in ordered)
        numbers = {key: (number + 1) << self._shift for number, key in enumerate(ordered)}
        table = array("H", bytes(2 * (len(rows) + 1) << self._shift))
        for key, row in rows.items():
            for column, then in enumerate(row):
                table[numbers[key] + column] = numbers[then]
        beyond = len(self._reading)  # the column for which all states lead to UNKNOWN
        classes = bytes(self._classes) + bytes([beyond]) * (256 - _LETTERS)
        found = (0, *(self._found(key) for key in ordered))
        return Automaton(tests, classes, self._shift, numbers[start], (finals + 1) << self._shift, table, found)
