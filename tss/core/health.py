"""How each part of the daemon is, for ``/health``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import attrs

DEAD_LETTERS = "dead letters"  # degraded while they go to the log instead, down while nothing takes them
READING = "reading"  # the component that is degraded while reading is paused


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
    since_secs: float | None = attrs.field(default=None, eq=False)  # since the epoch: when it came into this state


class Health:
    """The components by name. Ready is: none is down, the group is joined, nothing is stopping."""

    def __init__(
        self, clock: Callable[[], float] | None = None, changed: Callable[[str, State], None] | None = None
    ) -> None:
        """``clock`` gives the seconds since the epoch; without it nothing is known of since when. ``changed`` hears the
        name and the new state of each component that comes into another one."""
        self.stopping = False
        self.particulars: dict[
            str, Callable[[], Mapping[str, object]]
        ] = {}  # of a component: what stands beside its state
        self._clock, self._changed = clock, changed
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
        self._set(name, State.STARTING, detail)

    def up(self, name: str) -> None:
        """The component works."""
        self._set(name, State.UP)

    def degraded(self, name: str, detail: str) -> None:
        """The component does not work, and the daemon does without: it stays ready."""
        self._set(name, State.DEGRADED, detail)

    def down(self, name: str, detail: str) -> None:
        """The component does not work."""
        self._set(name, State.DOWN, detail)

    def _set(self, name: str, state: State, detail: str = "") -> None:
        before = self._components.get(name)
        if before is not None and before.state is state:
            since_secs = before.since_secs
        else:
            since_secs = self._clock() if self._clock else None
            if self._changed is not None:
                self._changed(name, state)
        self._components[name] = Component(state, detail, since_secs)

    def particular(self, name: str) -> Mapping[str, object]:
        """What stands beside the state of the component, as it is now."""
        read = self.particulars.get(name)
        return read() if read is not None else {}

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
