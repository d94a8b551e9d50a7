"""Who changed the policies, when and from where: the last changes, as all replicas share them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import attrs

from tss.core.documents import LATEST_SECS
from tss.core.ruleset import Change

MOST_CHANGES = 100  # that are kept, and whose texts are kept
MOST_FILES = 100
MOST_DOCUMENTS = 1000  # more are a stranger's
MAX_DOCUMENT_BYTES = 16 * 1024  # a change has some 200, the list of files 100 times 40
MAX_WHO = 200  # characters
MAX_TEXT_BYTES = 1024 * 1024  # of the text of a ruleset: as large as a ConfigMap may be
MAX_REVISION = 2**53  # the largest number that every reader of JSON takes

_CHANGE = "change."
_FILES = "files"


@attrs.frozen
class SeenFile:
    """The policies of a settings file: their fingerprint, and when a replica first took them up (seconds since 1970)."""

    fingerprint: str
    at: float


@attrs.frozen
class PolicyHistory:
    """The last changes, the oldest first, and the last settings files, the oldest first.

    ``documents`` are those that were read. An unchanged change keeps its bytes: a newer version may have written more into it.
    """

    changes: tuple[Change, ...] = ()
    files: tuple[SeenFile, ...] = ()
    documents: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)
    revision: int = 0  # of the last change, even if that change cannot be read; 0 without changes

    @property
    def current(self) -> Change | None:
        """The last change; None without changes, or if this version cannot read it."""
        last = self.changes[-1] if self.changes else None
        return last if last is not None and last.revision == self.revision else None

    def find(self, revision: int) -> Change | None:
        """The change of this revision, if it is still known."""
        return next((each for each in self.changes if each.revision == revision), None)

    def before(self) -> Change | None:
        """The last change to other policies than the current ones."""
        current = self.current
        others = (each for each in reversed(self.changes) if current is None or each.fingerprint != current.fingerprint)
        return next(others, None)

    def has_file(self, fingerprint: str) -> bool:
        """Whether a settings file with these policies was taken up."""
        return any(each.fingerprint == fingerprint for each in self.files)

    def lacks_file(self, fingerprint: str, *, known: bool) -> bool:
        """Whether this settings file was never taken up (``known``), or is not the last one that was."""
        return not (
            self.has_file(fingerprint) if known else self.files[-1:] and self.files[-1].fingerprint == fingerprint
        )

    def takes(self, fingerprint: str, changed_at: float) -> bool:
        """Whether a settings file with these policies is newer than the last change.

        It is not if it is the last file that was taken up. It is if it is new. An older file is newer only if it was changed
        after that: somebody has put it back. ``changed_at`` alone would not do: Kubernetes writes the file of a ConfigMap anew
        for each pod.
        """
        if not self.files:
            return True
        if self.files[-1].fingerprint == fingerprint:
            return False
        return not self.has_file(fingerprint) or changed_at > self.files[-1].at

    def with_change(self, change: Change, file_at: float | None = None) -> PolicyHistory:
        """The history with one more change; ``file_at``: a settings file had it, and this is when that was taken up."""
        document = json.dumps(attrs.asdict(change), ensure_ascii=False).encode()
        changes = (*self.changes, change)[-MOST_CHANGES:]
        kept = {_name(each) for each in changes}
        documents = {
            name: each for name, each in self.documents.items() if name in kept or not name.startswith(_CHANGE)
        }
        made = PolicyHistory(changes, self.files, documents | {_name(change): document}, change.revision)
        return made if file_at is None else made.with_file(change.fingerprint, file_at)

    def with_file(self, fingerprint: str, at: float) -> PolicyHistory:
        """The history with one more settings file."""
        files = (*self.files, SeenFile(fingerprint, at))[-MOST_FILES:]
        document = json.dumps([[each.fingerprint, each.at] for each in files]).encode()
        return attrs.evolve(self, files=files, documents={**self.documents, _FILES: document})


def read_history(documents: Mapping[str, bytes]) -> PolicyHistory:
    """The history of the store's documents. What cannot be read is left out: a stranger or a newer version wrote it."""
    changes: list[Change] = []
    revision = 0
    known: dict[str, bytes] = {}
    files: tuple[SeenFile, ...] = ()
    for name, document in list(documents.items())[:MOST_DOCUMENTS]:
        if len(document) > MAX_DOCUMENT_BYTES:
            continue
        known[name] = document
        if name == _FILES:
            files = _files(document)
        elif (number := _number(name)) is not None:
            revision = max(revision, number)
            change = _change(document)
            if change is not None and change.revision == number:
                changes.append(change)
    changes.sort(key=lambda each: each.revision)
    return PolicyHistory(tuple(changes[-MOST_CHANGES:]), files, known, revision)


def _name(change: Change) -> str:
    return f"{_CHANGE}{change.revision}"


def _number(name: str) -> int | None:
    digits = name.removeprefix(_CHANGE)
    if digits == name or not digits.isascii() or not digits.isdigit() or len(digits) > len(str(MAX_REVISION)):
        return None
    return int(digits)


def _change(document: bytes) -> Change | None:
    try:
        found = json.loads(document)
        return Change(
            fingerprint=_text(found["fingerprint"]),
            revision=_whole(found["revision"]),
            at=_moment(found["at"]),
            who=_text(found["who"]),
            source=_text(found["source"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _files(document: bytes) -> tuple[SeenFile, ...]:
    try:
        return tuple(SeenFile(_text(name), _moment(at)) for name, at in json.loads(document))[-MOST_FILES:]
    except (ValueError, TypeError, RecursionError):
        return ()


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.isprintable():
        raise ValueError("no printable text")
    return given[:MAX_WHO]


def _whole(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given <= MAX_REVISION:
        raise ValueError("no revision")
    return given


def _moment(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < math.inf:
        raise ValueError("no time")
    return min(float(given), LATEST_SECS)
