"""The W3C trace state of a span, and OpenTelemetry's member in it: `ot=th:c;rv:0123456789abcd`.

It is read as pkg/sampling reads it: a trace state with any error says nothing. Sources: W3C, "Trace Context", section
"tracestate Header"; OpenTelemetry, "TraceState: Probability Sampling"; pkg/sampling v0.161, `w3ctracestate.go` and
`oteltracestate.go`.
"""

from __future__ import annotations

import re

import attrs

SAW_RV, SAW_TH, SAW_OT = 1, 2, 4
"""Marks: the trace state has a randomness, a threshold, an `ot` member."""

NO_RV = -1

_MOST_BYTES = 1024
MOST_MEMBERS = 31
MOST_OF_OURS = 256
_TENANT = 241  # letters before the @ of a key with two parts
_SYSTEM = 14  # letters after it
_KEY_LETTERS = 256
_DIGITS = 14  # hexadecimal, of 56 bits
_BLANKS = b" \t"

_KEY = re.compile(rb"[a-z][a-z0-9_\-*/]*|[a-z0-9][a-z0-9_\-*/]*@[a-z][a-z0-9_\-*/]*")
_VALUE = re.compile(rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_PAIR = re.compile(rb"([a-z][a-z0-9]*):([a-zA-Z0-9._\-]*)")
_HEX = re.compile(rb"[0-9a-fA-F]{1,14}")


@attrs.frozen
class Ot:
    """OpenTelemetry's member: randomness and threshold in 56 bits, -1 if absent, and the other pairs in order."""

    rv: int = NO_RV
    th: int = -1
    others: tuple[tuple[str, str], ...] = ()

    @property
    def marks(self) -> int:
        """Which of SAW_RV and SAW_TH apply, and SAW_OT."""
        return SAW_OT | (SAW_RV if self.rv >= 0 else 0) | (SAW_TH if self.th >= 0 else 0)


def weight_of(trace_state: bytes) -> tuple[int, int]:
    """The marks and the randomness of a trace state: (0, -1) if it is invalid or has no `ot` member."""
    member = read(trace_state)
    return (0, NO_RV) if member is None else (member.marks, member.rv)


def read(trace_state: bytes) -> Ot | None:
    """OpenTelemetry's member of a trace state. None if there is none, or if anything in the trace state is invalid.

    If it occurs twice, the last one counts; so does the last of two equal keys in it.
    """
    if b"ot=" not in trace_state:
        return None
    found = None
    for key, value in members(trace_state) or ():
        if key == b"ot":
            found = ot(value)
            if found is None:
                return None
    return found


def members(trace_state: bytes) -> list[tuple[bytes, bytes]] | None:
    """Key and value of each member, in order; None if one of them is invalid. OpenTelemetry's own syntax is not checked."""
    if len(trace_state) > _MOST_BYTES:
        return None
    parts = trace_state.split(b",")
    if not parts[-1]:
        parts.pop()  # after a comma at the end there is no member
    if len(parts) > MOST_MEMBERS:
        return None
    found = []
    for part in parts:
        member = part.strip(_BLANKS)
        if not member:
            continue
        key, _, value = member.partition(b"=")
        if not _is_valid(key, value):
            return None
        found.append((key, value))
    return found


def _is_valid(key: bytes, value: bytes) -> bool:
    if not (len(key) <= _KEY_LETTERS and _KEY.fullmatch(key) and _VALUE.fullmatch(value)):
        return False
    tenant, at, system = key.partition(b"@")
    return not at or (len(tenant) <= _TENANT and len(system) <= _SYSTEM)


def ot(member: bytes) -> Ot | None:
    """The value of OpenTelemetry's member; None if it is invalid."""
    if len(member) > MOST_OF_OURS:
        return None
    rv = th = -1
    others = []
    for piece in member.split(b";"):
        pair = _PAIR.fullmatch(piece)
        if pair is None:
            return None
        key, value = pair.groups()
        if key == b"rv":
            if len(value) != _DIGITS or not _HEX.fullmatch(value):
                return None
            rv = int(value, 16)
        elif key == b"th":
            if not _HEX.fullmatch(value):
                return None
            th = int(value.ljust(_DIGITS, b"0"), 16)
        else:
            others.append((key.decode("ascii"), value.decode("ascii")))
    return Ot(rv, th, tuple(others))
