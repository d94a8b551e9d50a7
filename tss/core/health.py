"""The state of each component of the daemon, for ``/health``."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import attrs

DEAD_LETTERS = (
    "dead letters"  # degraded while dead letters go to the daemon's log instead, down while nothing takes them
)
READING = "reading"  # the component that is degraded while reading is paused


class State(enum.Enum):
    """The state of a component."""

    STARTING = "starting"  # not tried yet
    UP = "up"
    DEGRADED = "degraded"  # it does not work, and the daemon works without it meanwhile
    DOWN = "down"


@attrs.frozen
class Component:
    """The state of one component, and the reason if it is not up."""

    state: State
    detail: str = ""
    since_secs: float | None = attrs.field(default=None, eq=False)  # since the epoch: when this state began


class Health:
    """The components by name. The daemon is ready if no component is down, it has joined the group, and it is not stopping."""

    def __init__(
        self, clock: Callable[[], float] | None = None, changed: Callable[[str, State], None] | None = None
    ) -> None:
        """``clock`` gives the seconds since the epoch; without it components have no ``since_secs``. ``changed`` is called
        with the name and the new state of each component whose state changes."""
        self.stopping = False
        # By component: further fields beside its state.
        self.particulars: dict[str, Callable[[], Mapping[str, object]]] = {}
        self._clock, self._changed = clock, changed
        self.numbers: dict[str, Callable[[], float]] = {}  # shown beside the states
        self.details: dict[str, Callable[[], object]] = {}  # shown if the whole state is asked for
        self._components: dict[str, Component] = {}

    def __repr__(self) -> str:
        return f"<Health {self._components} stopping {self.stopping}>"

    @property
    def components(self) -> Mapping[str, Component]:
        """A view of all components."""
        return self._components

    def read_numbers(self) -> Mapping[str, float]:
        """The current numbers."""
        return {name: read() for name, read in self.numbers.items()}

    def read_details(self) -> Mapping[str, object]:
        """The current details."""
        return {name: read() for name, read in self.details.items()}

    def starting(self, name: str, detail: str = "not tried yet") -> None:
        """The component exists and has not been tried yet."""
        self._set(name, State.STARTING, detail)

    def up(self, name: str) -> None:
        """The component works."""
        self._set(name, State.UP)

    def degraded(self, name: str, detail: str) -> None:
        """The component does not work, and the daemon works without it: it stays ready."""
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
        """The further fields of the component, with their current values."""
        read = self.particulars.get(name)
        return read() if read is not None else {}

    @property
    def ready(self) -> bool:
        """Whether the daemon processes traffic. Destinations may be untried for that, Kafka may not."""
        kafka = self._components.get("kafka")
        return (
            not self.stopping
            and kafka is not None
            and kafka.state is State.UP
            and all(component.state is not State.DOWN for component in self._components.values())
        )
