"""The figures as bars, in SVG.

python -m bench.plot FILE.json [FILE.json ...] > docs/bench.svg     of what `--json` wrote
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from attrs import frozen

WIDTH, LEFT, GAP, EDGE = 900, 112, 90, 16
BAR, GROUP_GAP, HEAD = 14, 12, 88
MIB = 1 << 20

# The card has its own background, light or dark, so that it can be read on any page.
_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .dim { fill: #59636e } .title { font-size: 15px; font-weight: 600 }
.card { fill: #ffffff; stroke: #d1d9e0 } .bare { fill: #9aa4af } .tss { fill: #1a7f37 } .collector { fill: #c4671b }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .dim { fill: #9da7b3 } .card { fill: #0d1117; stroke: #3d444d }
.bare { fill: #6e7681 } .tss { fill: #3fb950 } .collector { fill: #e38b45 }
}"""
_NAMES = {"bare": "a consumer that does nothing", "tss": "tss", "collector": "OpenTelemetry Collector, tail_sampling"}


@frozen
class _Bar:
    """One consumer over one corpus."""

    consumer: str
    speed: float | None  # spans per CPU-second
    peak_bytes: int


_Groups = list[tuple[str, list[_Bar]]]


def drawn(*documents: dict[str, Any]) -> str:
    """All their figures in one picture: to the left spans per CPU-second, to the right peak memory."""
    groups = [group for document in documents for group in _groups(document)]
    bars = [bar for _, each in groups for bar in each]
    width = (WIDTH - LEFT - 2 * GAP - EDGE) / 2
    panels = [
        (LEFT, "Spans per CPU-second", width / max([bar.speed or 0 for bar in bars], default=1)),
        (LEFT + width + GAP, "Peak memory, MiB", width / max([bar.peak_bytes for bar in bars], default=1)),
    ]
    lines, y = _head(panels, {bar.consumer for bar in bars}), HEAD
    for name, each in groups:
        middle = y + len(each) * BAR / 2
        lines += [
            _text(LEFT - 10, middle + 4 + 14 * (number - name.count("\n") / 2), part, 'text-anchor="end"')
            for number, part in enumerate(name.split("\n"))
        ]
        for bar in each:
            if bar.speed is not None:
                lines += _drawn(panels[0][0], y, bar.speed * panels[0][2], bar.consumer, _short(bar.speed))
            lines += _drawn(
                panels[1][0], y, bar.peak_bytes * panels[1][2], bar.consumer, f"{bar.peak_bytes / MIB:,.0f}"
            )
            y += BAR
        y += GROUP_GAP
    foot = [
        "Corpus: spans a record; a trace in one record (keyed), in many (scattered) or many in one (mixed); share kept."
    ]
    foot += ["Memory: tss holds two seconds of the topic, the Collector what it reads in two seconds."]
    foot += [documents[0]["machine"]]
    for line in foot:
        lines.append(_text(EDGE, y + 12, line, 'class="dim"'))
        y += 16
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 12}" width="{WIDTH}" height="{y + 12}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y + 11}" rx="6"/>',
            *lines,
            "</svg>\n",
        ]
    )


def _groups(document: dict[str, Any]) -> _Groups:
    groups = [
        (
            row["corpus"],
            [_Bar(name, run["spans_per_cpu_sec"], run["peak_bytes"]) for name, run in row["runs"].items()],
        )
        for row in document.get("rows", ())
    ]
    if held := document.get("held"):
        bars = [_Bar(each["consumer"], None, each["peak_bytes"]) for each in held]
        groups.append((f"{_short(held[0]['spans'])} spans\nheld open", bars))
    return groups


def _head(panels: Sequence[tuple[float, str, float]], consumers: set[str]) -> list[str]:
    lines, x = [], float(EDGE)
    for consumer, name in _NAMES.items():
        if consumer in consumers:
            lines.append(f'<rect class="{consumer}" x="{x:.0f}" y="16" width="12" height="12" rx="2"/>')
            lines.append(_text(x + 18, 26, name))
            x += 44 + 6.5 * len(name)
    return lines + [_text(x, HEAD - 24, title, 'class="title"') for x, title, _ in panels]


def _drawn(x: float, y: float, width: float, kind: str, label: str) -> list[str]:
    bar = f'<rect class="{kind}" x="{x:.0f}" y="{y}" width="{max(1, width):.1f}" height="{BAR - 2}" rx="1.5"/>'
    return [bar, _text(x + width + 6, y + BAR - 4, label)]


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {attributes}>{escape(text)}</text>'.replace(" >", ">")


def _short(number: float) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


if __name__ == "__main__":
    sys.stdout.write(drawn(*[json.loads(Path(name).read_text()) for name in sys.argv[1:]]))
