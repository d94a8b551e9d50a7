"""What is found while a section is read: what is refused, and what does not do what it seems to say."""

from __future__ import annotations

from typing import final

import attrs

from tss.core.errors import TssError


@final
@attrs.frozen
class Wrong:
    """One reason why a section is refused. `path` is as the Collector writes it: `policies[3].latency.threshold_ms`.

    The path of the section itself is "".
    """

    path: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.path or 'tail_sampling'}: found {self.found}; allowed: {self.allowed}{hint}"


@final
@attrs.frozen
class Note:
    """A place in a section that is accepted, and does not do what it seems to say. Or it has no effect here.

    `minor`: it is so by the Collector's documentation, or makes little difference.
    """

    path: str
    text: str
    minor: bool = False

    def __str__(self) -> str:
        return f"{self.path or 'tail_sampling'}: {self.text}"


class WrongSection(TssError):
    """A section that cannot be used. `wrong` has every reason, so that they can be corrected together."""

    def __init__(self, *wrong: Wrong) -> None:
        super().__init__(*wrong)
        self.wrong = wrong

    def __str__(self) -> str:
        return "; ".join(map(str, self.wrong))


@final
@attrs.define
class Findings:
    """What was found so far in one section."""

    wrong: list[Wrong] = attrs.field(factory=list)
    notes: list[Note] = attrs.field(factory=list)

    def refuse(self, path: str, found: str, allowed: str, hint: str = "") -> None:
        """Add a reason to refuse the section."""
        self.wrong.append(Wrong(path, found, allowed, hint))

    def refused(self, path: str) -> bool:
        """Whether the value in this place was refused."""
        return any(each.path == path for each in self.wrong)

    def note(self, path: str, text: str, *, minor: bool = False) -> None:
        """Add a note."""
        self.notes.append(Note(path, text, minor))

    def check(self) -> None:
        """Raises WrongSection if anything was refused."""
        if self.wrong:
            raise WrongSection(*self.wrong)
