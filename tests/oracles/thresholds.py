"""Thresholds, randomness and trace states asked of pkg/sampling and of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from tests.oracles import otel
from tss.core import tracestate
from tss.core.policies.probability import DIGITS, SPACE, randomness, threshold
from tss.core.tracestate import MOST_MEMBERS, MOST_OF_OURS
from tss.core.weights import CONTRADICTED, FULL, MOST_BYTES, OLD, TraceState, Weight, th_of, threshold_of, weighed

Json = Any
Asked = Mapping[str, Json]
HIGHEST = SPACE - 1
_HEX = "0123456789abcdef"
_ODD = ("", "C", "0x1", "g", "-1", "c" * 15, "0" * 14, "f" * 14, "c ", "8" + "0" * 13)
_PAIRS = ("p:8", "r:62", "xx:abc", "a1:b-2.c_d", "x:", "X:1", "1x:1", ":1", "x", "x:1=2", "")
_MEMBERS = (
    "v=1", "dd=s:1;o:rum", "a@b=2", "a@b@c=2", "A=1", "=1", "v=", "v", "v= x", "v=x ", " v=1", "v=1 ", "0a=1", "0a@b=1", "ot@x=1", "",
    "v=" + "x" * 256, "v=" + "x" * 257, "k" * 256 + "=1", "k" * 257 + "=1", "v=a=b", "v=\t1", "v=é",
)  # fmt: skip


def thresholds(rng: Random, count: int) -> Iterator[str]:
    """What differs, one text for each question."""
    asked = [_question(rng) for _ in range(count)]
    for question, answer in zip(asked, otel.thresholds(asked), strict=True):
        its, mine = _of(question, answer), _ours(question)
        if mine != its and not _is_meant(question, answer):
            told = {"asked": question, "tss": mine, "the Collector": its, "it said": answer}
            yield json.dumps(told, ensure_ascii=False)


def _is_meant(asked: Asked, answer: Asked) -> bool:
    """Where ours differs by intent (docs/weights.md)."""
    if asked["op"] == "threshold" and "th" not in asked:
        # It refuses shares below the smallest one; here they are rounded.
        return "error" in answer and 0 <= asked["probability"] < 1 / SPACE
    if asked["op"] != "update" or "error" in answer:
        return False
    new, outcome = weighed(asked["state"].encode(), Weight(threshold_of(asked["th"].encode()), HIGHEST))
    if outcome == OLD:  # it writes a threshold beside a rate in the old form, which it does not read
        return new is None and "p:" in asked["state"]
    if outcome == FULL:  # it makes a trace state longer than every participant has to pass on
        members = answer["state"].split(",")
        return len(answer["state"]) > MOST_BYTES or len(members) > MOST_MEMBERS or max(map(len, members)) > MOST_OF_OURS
    # It does not look whether the randomness contradicts.
    return outcome == CONTRADICTED and int(answer["rv"], 16) < threshold_of(answer["th"].encode())


# ---- answers in the same words: None for an error


def _of(asked: Asked, answer: Asked) -> Json:
    if "error" in answer:
        return None
    match asked["op"]:
        case "threshold":
            return answer["th"], answer.get("probability", 0.0)
        case "randomness":
            return answer["rv"]
        case "decide":
            return answer["sampled"]
    told = answer.get("th"), answer.get("rv")
    # Where a threshold is refused because it is no larger than the one there, ours leaves the text as it came.
    return told if asked["op"] == "state" or "refused" in answer else (*told, answer["state"])


def _ours(asked: Asked) -> Json:
    match asked["op"]:
        case "threshold" if "th" in asked:
            found = _value("th", asked["th"])
            return None if found is None else (th_of(found).decode(), (SPACE - found) / SPACE)
        case "threshold":
            if not 0 < asked["probability"] <= 1:
                return None
            found = threshold(asked["probability"])
            return th_of(found).decode(), (SPACE - found) / SPACE
        case "randomness":
            drawn = _drawn(asked)
            return None if drawn is None else f"{drawn:0{DIGITS}x}"
        case "decide":
            limit, drawn = _value("th", asked["th"]), _drawn(asked)
            return None if limit is None or drawn is None else drawn >= limit
    text = asked["state"].encode()
    if TraceState.parse(text) is None:
        return None
    if asked["op"] == "state":
        return _told(text)
    new, _ = weighed(text, Weight(threshold_of(asked["th"].encode()), HIGHEST))
    return _told(text) if new is None else (*_told(new), new.decode())


def _told(text: bytes) -> tuple[str | None, str | None]:
    found = tracestate.read(text) or tracestate.Ot()
    th = th_of(found.th).decode() if found.th >= 0 else None
    return th, f"{found.rv:0{DIGITS}x}" if found.rv >= 0 else None


def _value(key: str, text: str) -> int | None:
    found = tracestate.ot(f"{key}:{text}".encode())
    return None if found is None else found.th if key == "th" else found.rv


def _drawn(asked: Asked) -> int | None:
    return _value("rv", asked["rv"]) if "rv" in asked else randomness(bytes.fromhex(asked["trace_id"]))


# ---- questions


def _question(rng: Random) -> dict[str, Json]:
    match rng.randrange(6):
        case 0:
            return {"op": "threshold", "probability": _probability(rng)}
        case 1:
            return {"op": "threshold", "th": _hex(rng, rng.randint(1, 14)) or "c"}
        case 2:
            return {"op": "randomness"} | _given(rng)
        case 3:
            return {"op": "decide", "th": _hex(rng, rng.randint(1, 14)) or "c"} | _given(rng)
        case 4:
            return {"op": "state", "state": _state(rng)}
    return {"op": "update", "state": _state(rng), "th": th_of(threshold(min(1.0, rng.random() + 1e-9))).decode()}


def _probability(rng: Random) -> float:
    exact = rng.randint(1, 99) / 100
    return rng.choice(
        (rng.random(), exact, 2.0 ** -rng.randint(0, 60), 1 - 2.0 ** -rng.randint(1, 53), 0.0, 1.0, 1.5, -0.5)
    )


def _hex(rng: Random, digits: int) -> str:
    return rng.choice(_ODD) if rng.random() < 0.1 else "".join(rng.choices(_HEX, k=digits))


def _given(rng: Random) -> dict[str, Json]:
    if rng.random() < 0.5:
        return {"trace_id": rng.randbytes(16).hex()}
    return {"rv": _hex(rng, rng.choice((14, 14, 14, 13, 15))) or "1"}


def _state(rng: Random) -> str:
    members = [
        rng.choice(_MEMBERS) if rng.random() < 0.2 else f"k{rng.randint(0, 99)}=v" for _ in range(rng.randint(0, 3))
    ]
    if rng.random() < 0.03:
        members += ["k=v"] * rng.choice((27, 28, 29, 30, 31))
    if rng.random() < 0.9:
        pairs = [rng.choice(_PAIRS)] if rng.random() < 0.3 else []
        pairs += [f"th:{_hex(rng, rng.randint(1, 14))}"] if rng.random() < 0.6 else []
        pairs += [f"rv:{_hex(rng, 14)}"] if rng.random() < 0.5 else []
        pairs += [f"x{number}:{'y' * 20}" for number in range(rng.choice((0, 0, 0, 0, 9, 10, 11)))]
        members.insert(rng.randint(0, len(members)), "ot=" + ";".join(rng.sample(pairs, len(pairs))))
    return ",".join(members)
