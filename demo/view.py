"""What is seen of the daemon while it works: a live screen in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import Factory, define, field, frozen
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.arrivals import Arrived, OutputFile, Promises
from demo.servers import ROOT_QUIET_SECS

# For reading, the sweep, the exporter's batch and our own look into the file, on a machine that has other things to do.
ARRIVAL_SECS = 6.0
RATE_OVER_SECS = 5.0  # long enough to be calm, short enough to follow
MOST_TRACES = 12  # of the last kept
TOP_LINES = 7
FRAME_LINES = 3  # of a panel with a table: its border and the names of the columns

Labels = frozenset[tuple[str, str]]


class Metrics:
    """One scrape of ``/metrics``."""

    def __init__(self, text: str = "") -> None:
        self._samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series with these labels."""
        wanted = labels.items()
        return sum(value for has, value in self._samples.get(name, {}).items() if wanted <= dict(has).items())

    def series(self, name: str) -> Mapping[Labels, float]:
        """All series of this name."""
        return self._samples.get(name, {})


@frozen
class Decided:
    """How many traces ended in one way."""

    verdict: str
    policy: str
    reason: str
    traces: int


@define
class State:
    """All that the screen shows."""

    directory: Path
    file: OutputFile
    slow_ms: float
    promises: Promises = Factory(Promises)
    now_secs: float = 0.0  # in the traffic's time: how far it has been sent
    sent_spans: int = 0
    sent_traces: int = 0
    unsent: int = 0  # records that the broker did not take
    metrics: Metrics = Factory(Metrics)
    health: dict[str, str] = Factory(dict)  # state by component
    status: str = "starting"
    _history: deque[tuple[float, float, float]] = field(factory=deque)

    def scraped(self, now: float, metrics: Metrics) -> None:
        """Take in a scrape; ``now`` is any clock in seconds that only goes forward."""
        self.metrics = metrics
        self._history.append((now, metrics.total("spans_ingested_total"), metrics.total("traces_ingested_total")))
        while len(self._history) > 2 and now - self._history[1][0] >= RATE_OVER_SECS:
            self._history.popleft()

    @property
    def rates(self) -> tuple[float, float]:
        """Spans and traces a second that came in lately."""
        if len(self._history) < 2:
            return 0.0, 0.0
        (then, *before), (now, *after) = self._history[0], self._history[-1]
        spans, traces = ((new - old) / (now - then) for old, new in zip(before, after, strict=True))
        return spans, traces

    @property
    def decided(self) -> list[Decided]:
        """Kept before dropped, the most frequent first."""
        rows = [
            Decided(named["verdict"], named["policy"], named["reason"], int(value))
            for labels, value in self.metrics.series("decisions_total").items()
            for named in (dict(labels),)
        ]
        return sorted(rows, key=lambda row: (row.verdict != "keep", -row.traces))

    @property
    def nothing_due(self) -> bool:
        """Whether no trace that must be kept has come, or has had the time for it."""
        return not self.promises.kept_whole and not self.promises.overdue(self.now_secs)

    @property
    def kept_and_all(self) -> tuple[int, int]:
        """Traces kept, and traces decided."""
        rows = self.decided
        return sum(row.traces for row in rows if row.verdict == "keep"), sum(row.traces for row in rows)


def line(state: State) -> str:
    """The state in one line."""
    spans, traces = state.rates
    kept, decided = state.kept_and_all
    metrics = state.metrics
    return (
        f"{state.now_secs:5.0f} s  {state.status:8}  in {spans:6,.0f} spans/s {traces:5,.0f} traces/s"
        f"  open {metrics.total('buffer_traces_current'):5,.0f}  lag {metrics.total('kafka_consumer_lag'):4,.0f}"
        f"  kept {kept:,} of {decided:,} ({_share(kept, decided)})  late spans {metrics.total('late_spans_total'):,.0f}"
        f"  must-keep whole {_promised(state)}"
    )


def screen(state: State, width: int, height: int) -> RenderableType:
    """The state as a screenful. Where there is little room, first the last kept give way and then the decided."""
    top = Table.grid(expand=True)
    for _ in range(3):
        top.add_column(ratio=1)
    top.add_row(_coming_in(state), _held(state), _going_out(state))
    foot = _foot(state)
    room = height - TOP_LINES - FRAME_LINES - len(foot.wrap(Console(width=width), width))
    decided = state.decided if len(state.decided) <= room else _shortened(state.decided, max(1, room))
    shown = min(MOST_TRACES, room - len(decided) - FRAME_LINES)
    parts: list[RenderableType] = [top, Panel(_decisions(state, decided), title="decided", title_align="left")]
    if shown > 0:
        parts.append(Panel(_last_kept(state, shown), title="last kept", title_align="left"))
    return Group(*parts, foot)


def _shortened(rows: list[Decided], most: int) -> list[Decided]:
    """The first of them, and the rest as one."""
    rest = rows[most - 1 :]
    return [*rows[: most - 1], Decided("...", f"{len(rest)} more", "", sum(row.traces for row in rest))]


def summary(state: State) -> str:
    """What there was, once it is over."""
    kept, decided = state.kept_and_all
    metrics = state.metrics
    rows = [f"  {row.verdict:5} {row.traces:8,}  {row.policy} ({row.reason})" for row in state.decided]
    overdue = state.promises.overdue(state.now_secs)
    return "\n".join(
        [
            f"spans in      {metrics.total('spans_ingested_total'):,.0f} of {state.sent_spans:,} sent",
            f"traces        {decided:,} decided, {kept:,} kept ({_share(kept, decided)}):"
            if decided
            else "traces        none decided",
            *rows,
            f"late spans    {metrics.total('late_spans_total'):,.0f}, as their traces' verdicts said",
            f"in the file   {state.file.traces:,} traces, {state.file.spans:,} spans: {_near(state.file.path)}",
            f"must be kept  {_arrived_whole(state, len(overdue))}",
            *(_broken(owed.trace.trace_id.hex(), len(owed.missing), sorted(owed.trace.why)) for owed in overdue[:10]),
        ]
    )


def _arrived_whole(state: State, overdue: int) -> str:
    if state.nothing_due:
        return f"too short: nothing was due yet, as a trace has {ROOT_QUIET_SECS + ARRIVAL_SECS:g} s and more to arrive"
    return f"{_promised(state)} arrived whole" + (
        f"; {overdue} did not in time" if overdue else " of those that had their time"
    )


def _broken(trace_id: str, missing: int, why: list[str]) -> str:
    return f"  {trace_id}  {' and '.join(why)}, {missing} spans missing"


def _promised(state: State) -> str:
    whole = state.promises.kept_whole
    return f"{whole} of {whole + len(state.promises.overdue(state.now_secs))}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _facts(title: str, rows: Iterator[tuple[str, str]]) -> Panel:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(name, value)
    return Panel(table, title=title, title_align="left")


def _coming_in(state: State) -> Panel:
    def rows() -> Iterator[tuple[str, str]]:
        spans, traces = state.rates
        yield "spans/s", f"{spans:,.0f}"
        yield "traces/s", f"{traces:,.0f}"
        yield "spans so far", f"{state.metrics.total('spans_ingested_total'):,.0f}"
        yield "late spans", f"{state.metrics.total('late_spans_total'):,.0f}"
        yield "lag, records", f"{state.metrics.total('kafka_consumer_lag'):,.0f}"

    return _facts("coming in", rows())


def _held(state: State) -> Panel:
    def rows() -> Iterator[tuple[str, str]]:
        metrics = state.metrics
        yield "open traces", f"{metrics.total('buffer_traces_current'):,.0f}"
        yield "open spans", f"{metrics.total('buffer_spans_current'):,.0f}"
        used, limit = metrics.total("buffer_bytes_current"), metrics.total("buffer_bytes_limit")
        yield f"MiB of {limit / 2**20:,.0f}", f"{used / 2**20:,.1f}"
        yield "uncommitted", f"{metrics.total('kafka_uncommitted_records'):,.0f}"
        known = metrics.total("decision_memory_kept_current") + metrics.total("decision_memory_dropped_current")
        yield "verdicts", f"{known:,.0f}"

    return _facts("held", rows())


def _going_out(state: State) -> Panel:
    def rows() -> Iterator[tuple[str, str]]:
        kept, decided = state.kept_and_all
        yield "daemon", state.status
        for name, component in state.health.items():
            yield name.removeprefix("exporter "), component
        yield "decided", f"{decided:,}"
        yield "kept", f"{kept:,} ({_share(kept, decided)})"

    return _facts("going out", rows())


def _decisions(state: State, rows: list[Decided]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1))
    for name in ("verdict", "policy", "decided when"):
        table.add_column(name, no_wrap=True)
    for name in ("traces", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    _, all_traces = state.kept_and_all
    for row in rows:
        style = "green" if row.verdict == "keep" else "dim"
        table.add_row(
            row.verdict, row.policy, row.reason, f"{row.traces:,}", _share(row.traces, all_traces), style=style
        )
    return table


def _last_kept(state: State, shown: int) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1))
    for name in ("trace", "service", "request"):
        table.add_column(name, no_wrap=True)
    for name in ("ms", "spans"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", no_wrap=True)
    for trace in reversed(list(state.file.recent.values())[-shown:]):
        request = trace.root or "(its root never came)"
        duration, spans = f"{trace.duration_ms:,.0f}", str(len(trace.span_ids))
        table.add_row(trace.trace_id.hex()[:12], trace.service, request, duration, spans, why(trace, state.slow_ms))
    return table


def why(trace: Arrived, slow_ms: float) -> Text:
    """What can be told from the spans themselves."""
    reasons = []
    if trace.errors:
        reasons.append(Text("error", "red"))
    if trace.duration_ms >= slow_ms:
        reasons.append(Text("slow", "yellow"))
    return Text(", ").join(reasons) if reasons else Text("chance", "dim")


def _foot(state: State) -> Text:
    overdue = state.promises.overdue(state.now_secs)
    late = state.metrics.series("late_spans_total")
    told = ", ".join(f"{value:,.0f} {dict(labels)['verdict']}" for labels, value in sorted(late.items(), key=str))
    return Text.assemble(
        ("errors and slow ones arrived whole: ", "dim"),
        (_promised(state), "red bold" if overdue else "green bold"),
        (f"\nlate spans: {told or 'none'}", "dim"),
        (f"   not taken by the broker: {state.unsent}" if state.unsent else "", "red"),
        ("   Ctrl-C ends", "dim"),
        (f"\nkept traces: {_near(state.file.path)}   logs and settings: {_near(state.directory)}", "dim"),
    )


def _near(path: Path) -> Path:
    """As one would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
