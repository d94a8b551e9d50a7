"""How each part of the daemon is, for ``/health``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import attrs


class State(enum.Enum):
    """The state of a component."""

    STARTING = "starting"  # not tried yet
    UP = "up"
    DEGRADED = "degraded"  # it does not work, and others do without it for as long as that lasts
    DOWN = "down"


@attrs.frozen
class Component:
    """One component's state, and why when it is not up."""

    state: State
    detail: str = ""


class Health:
    """The components by name. Ready is: none is down, the group is joined, nothing is stopping."""

    def __init__(self) -> None:
        self.stopping = False
        self.numbers: dict[str, Callable[[], float]] = {}  # what a person wants to see beside the states
        self.details: dict[str, Callable[[], object]] = {}  # and who asks for the whole state
        self._components: dict[str, Component] = {}

    def __repr__(self) -> str:
        return f"<Health {self._components} stopping {self.stopping}>"

    @property
    def components(self) -> Mapping[str, Component]:
        """A view of all components."""
        return self._components

    def read_numbers(self) -> Mapping[str, float]:
        """The numbers as they are now."""
        return {name: read() for name, read in self.numbers.items()}

    def read_details(self) -> Mapping[str, object]:
        """The details as they are now."""
        return {name: read() for name, read in self.details.items()}

    def starting(self, name: str, detail: str = "not tried yet") -> None:
        """The component exists and has not been tried."""
        self._components[name] = Component(State.STARTING, detail)

    def up(self, name: str) -> None:
        """The component works."""
        self._components[name] = Component(State.UP)

    def degraded(self, name: str, detail: str) -> None:
        """The component does not work, and the daemon does without: it stays ready."""
        self._components[name] = Component(State.DEGRADED, detail)

    def down(self, name: str, detail: str) -> None:
        """The component does not work."""
        self._components[name] = Component(State.DOWN, detail)

    @property
    def ready(self) -> bool:
        """Whether traffic may be counted on being processed: destinations may be untried, Kafka may not."""
        kafka = self._components.get("kafka")
        return (
            not self.stopping
            and kafka is not None
            and kafka.state is State.UP
            and all(component.state is not State.DOWN for component in self._components.values())
        )
