"""A dictionary comes when there is enough to train on, and not before."""

from __future__ import annotations

import random

import pytest
import trio

from tests.fakes.meter import FakeMeter
from tss.core import packing
from tss.core.packing import Packer
from tss.tasks import trainer

SECS = 20.0


async def test_a_dictionary_is_trained_while_the_daemon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 100)
    monkeypatch.setattr(trainer, "LOOK_SECS", 0.01)
    packer, meter, chance = Packer(), FakeMeter(), random.Random(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trainer.run, packer, meter)
        await trio.sleep(0.1)
        assert packer.dictionary.version == 0
        for _ in range(100):
            packer.pack(b" ".join(chance.choice([b"checkout", b"payment", b"GET /api"]) for _ in range(200)))
        with trio.fail_after(SECS):
            while not packer.dictionary.version:
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert meter.watched["packing_dictionary_version", ()]() == 1
