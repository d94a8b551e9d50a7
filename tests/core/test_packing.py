"""Quiet traces are made small in place, before any is decided early, and come out as they went in."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.core.spans import fragment, message, record, scanned, span, trace_id
from tss.core import buffer as buffer_module
from tss.core import packing
from tss.core.buffer import Buffer, Limits, Waits
from tss.core.decision import Decision, Reason, Verdict
from tss.core.memory import Memory
from tss.core.otlp import Scanner
from tss.core.packing import Packer, train
from tss.core.partition import Partition

WALL = 10**12
MIB = 1 << 20


def alike(number: int, size: int = 3000) -> bytes:
    """Bytes with much in common."""
    chance = random.Random(number)
    words = [b"checkout", b"GET /api/orders", b"http.response.status_code", b"payment", b"k8s.pod.name"]
    return b" ".join(chance.choice(words) + str(chance.randrange(1000)).encode() for _ in range(size // 15))


def filled(max_bytes: int, traces: int, size: int = 4000, step_secs: float = 0.01) -> tuple[Buffer, Partition]:
    buffer = Buffer(Limits(max_bytes, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    home = Partition(0, 0, 10**9)
    for number in range(traces):
        buffer.add(home, record(number, 100 + number * step_secs, fragment(number, size=size)), WALL)
    return buffer, home


def test_what_is_packed_comes_out_as_it_went_in() -> None:
    packer = Packer()
    for number in range(100):
        plain = alike(number)
        packed = packer.pack(plain)
        assert len(packed.frame) < len(plain)
        assert packed.unpack() == plain


def test_a_dictionary_is_trained_once_there_is_enough_and_makes_frames_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 200)
    packer = Packer()
    without = sum(len(packer.pack(alike(number)).frame) for number in range(199))
    assert packer.samples() == ()
    packer.pack(alike(199))
    samples = packer.samples()
    assert len(samples) == 200
    assert packer.samples() == ()  # somebody is at it
    packer.use(train(samples))
    assert packer.dictionary.version == 1
    assert sum(len(packer.pack(alike(1000 + number)).frame) for number in range(199)) < 0.95 * without


def test_old_versions_open_what_they_packed() -> None:
    packer = Packer()
    kept = []
    for version in range(3):
        packer.use(train([alike(1000 * version + number) for number in range(200)]))
        kept.append((alike(version), packer.pack(alike(version))))
    assert [packed.dictionary.version for _, packed in kept] == [1, 2, 3]
    assert all(packed.unpack() == plain for plain, packed in kept)


def test_training_that_finds_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 3)
    packer = Packer()
    for _ in range(2):
        for number in range(3):
            packer.pack(alike(number))
        samples = packer.samples()
        assert len(samples) == 3
        packer.use(train(samples))
    assert packer.dictionary.version == 0


def test_samples_are_short_however_large_the_traces() -> None:
    packer = Packer()
    for _ in range(packing.SAMPLES):
        packer.pack(bytes(100_000))
    assert {len(each) for each in packer.samples()} == {packing.SAMPLE_BYTES}


def test_law_6_several_threads_unpack_at_once() -> None:
    """As destinations do, each on its own thread; the library's decompressor would not bear that."""
    packer = Packer()
    packer.use(train([alike(number) for number in range(200)]))
    plains = [alike(number, 20_000) for number in range(40)]
    packed = [packer.pack(plain) for plain in plains]

    def unpack(_: int) -> bool:
        return all(each.unpack() == plain for each, plain in zip(packed, plains, strict=True))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(unpack, range(100)))


def test_a_dictionary_that_does_much_worse_than_when_it_was_new_is_trained_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "SAMPLES", 100)
    monkeypatch.setattr(packing, "JUDGED", 100)
    packer = Packer()
    for number in range(100):
        packer.pack(alike(number))
    packer.use(train(packer.samples()))
    for number in range(400):
        packer.pack(alike(number))
        assert packer.samples() == ()
    for number in range(300):  # other traffic
        packer.pack(random.Random(number).randbytes(2000))
    assert len(packer.samples()) == 100


def test_law_5_quiet_traces_are_packed_before_any_is_decided_early() -> None:
    buffer, _ = filled(24 * MIB, 8000)  # 32 MB of bytes that are all alike
    assert buffer.take() == []
    assert buffer.open_traces == 8000
    assert buffer.open_bytes < 12 * MIB
    counts = buffer.take_counts()
    assert counts.packed_traces > 5000
    assert counts.packed_saved_bytes > 15 * MIB


def test_law_5_lively_traces_are_not_packed_but_decided() -> None:
    """Nothing is quiet yet: all came within a second."""
    buffer, _ = filled(8 * MIB, 4000, step_secs=0.0001)
    assert buffer.take_counts().packed_traces == 0
    assert {trace.reason for trace in buffer.take()} == {Reason.PRESSURE}


def test_what_does_not_get_smaller_stays_as_it_is() -> None:
    buffer = Buffer(Limits(MIB // 2, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    home, chance = Partition(0, 0, 10**9), random.Random(1)
    payloads = {}
    for number in range(300):
        noise = fragment(number, payload=chance.randbytes(1100))
        payloads[noise.trace_id] = noise.payload
        buffer.add(home, record(number, 100 + number, noise), WALL)
    assert buffer.take_counts().packed_traces == 0
    assert {trace.trace_id for trace in buffer.take()}, "pressure"
    buffer.forget([home])
    assert buffer.open_bytes == 0


def test_law_5_a_partition_that_stands_still_does_not_keep_others_from_being_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buffer_module, "QUIET_FRAGMENTS", 100)
    buffer = Buffer(Limits(5 * MIB, 10**9, 10**9, 10**9), Waits(10**9, 10**9, 10**9), Memory())
    still, moving = Partition(1, 0, 10**9), Partition(0, 0, 10**9)
    for number in range(2000):
        buffer.add(moving, record(number, 100 + number / 10, fragment(2 * number, size=4000)), WALL)
        if number < 50:
            buffer.add(still, record(number, 100, fragment(2 * number + 1, size=4000), partition=1), WALL)
    assert buffer.take() == []
    assert buffer.take_counts().packed_traces > 1000


def test_batches_are_measured_by_what_is_sent_not_by_what_is_held() -> None:
    buffer, home = filled(MIB, 300, step_secs=0.1)
    assert buffer.take_counts().packed_traces
    buffer.reach(home, 10**13)
    closed = buffer.take()
    assert all(trace.payload_bytes == len(trace.payload) == 4000 for trace in closed)
    assert min(trace.size for trace in closed) < 2000
    for trace in closed:
        buffer.decided(trace, Decision(Verdict.DROP, "default", Reason.INACTIVE, 0.0))
    buffer.settle_all(closed)
    assert (buffer.open_bytes, buffer.closed_bytes) == (0, 0)
    assert home.ledger.low_water == 300


def test_law_6_what_was_packed_is_sent_as_it_came_with_what_came_after_it() -> None:
    buffer = Buffer(Limits(MIB // 2, 10**9, 10**9, 10**9), Waits(60_000, 60_000, 10**9), Memory())
    home, scanner = Partition(0, 0, 10**9), Scanner()
    sent: dict[bytes, bytes] = {}
    offset = 0
    for at in range(3):  # three times something for each trace, quiet for ten seconds in between
        for number in range(50):
            spans = [span(number, 4 * at + each, 0 if at or each else None) for each in range(4)]
            for each in spans:
                each.name *= 100
            value = message(spans)
            sent[trace_id(number)] = sent.get(trace_id(number), b"") + value
            buffer.add(home, scanned(scanner, value, offset, 100_000 + 10_000 * at + number * 100), WALL)
            offset += 1
    assert buffer.take_counts().packed_traces >= 50
    buffer.reach(home, 10**9)
    closed = buffer.take()
    assert {trace.trace_id: trace.payload for trace in closed} == sent
    assert all(trace.held_spans == 12 for trace in closed)


def test_accounts_return_to_nothing_when_packed_traces_have_ended() -> None:
    buffer, home = filled(MIB, 500, step_secs=0.1)
    assert buffer.take_counts().packed_traces
    buffer.forget([home])
    assert (buffer.open_bytes, buffer.open_spans, buffer.open_traces) == (0, 0, 0)
