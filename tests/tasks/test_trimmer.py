"""What a burst has left over is given back from time to time."""

from __future__ import annotations

import ctypes

import trio
from trio.testing import MockClock

from tss.edges import heap
from tss.tasks import trimmer


async def test_it_is_given_back_again_and_again(mock_clock: MockClock) -> None:
    given: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trimmer.run, lambda: given.append(1))
        while len(given) < 3:  # a jump that comes while a thread still gives back is one in vain
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(trimmer.INTERVAL_SECS)
        nursery.cancel_scope.cancel()


def test_another_c_library_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    heap.give_back()
    heap.share_one_arena()
