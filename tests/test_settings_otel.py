"""`sampling.otelTailSampling`: a Collector's section among the settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hard_values import HARD
from tss.commands.check_summary import differences, in_force
from tss.commands.check_warnings import warnings
from tss.core.collector.keys import known_keys
from tss.core.collector.sampler import Collector
from tss.core.collector.section import BLOCKS, NESTED, Section
from tss.core.combining import Sampler
from tss.daemon import wiring
from tss.daemon.outside import limits
from tss.settings import Sampling, Settings, SettingsError, load, render, without_effect
from tss.settings.errors import InvalidValue
from tss.settings.kinds import otel

SECTION = {
    "decision_wait": "10s",
    "decision_wait_after_root_received": "2s",
    "maximum_trace_size_bytes": 5_000_000,
    "num_traces": 7,
    "policies": [
        {"name": "probes", "type": "drop", "drop": {"drop_sub_policy": [{"type": "trace_flags"}]}},
        {"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
        {"name": "some", "type": "probabilistic", "probabilistic": {"sampling_percentage": 10}},
    ],
}


def loaded(at: Path, **sampling: Any) -> Settings:
    path = at / "tss.yaml"
    exporters = [{"name": "f", "type": "file", "path": "f"}]
    path.write_text(yaml.safe_dump({"kafka": {"brokers": "b:9092"}, "exporters": exporters, "sampling": sampling}))
    return load(str(path), {})


def wrong(at: Path, **sampling: Any) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        loaded(at, **sampling)
    return [re.sub(r" \(line \d+\)", "", str(each)) for each in refused.value.errors]


def test_the_section_gives_the_sampler_the_waits_and_the_limit(tmp_path: Path) -> None:
    settings = loaded(tmp_path, otelTailSampling=SECTION)
    sampler = wiring.sampler_of(settings)
    assert isinstance(sampler, Collector)
    waits = wiring.waits_of(settings)
    assert (waits.decision_wait_ms, waits.root_wait_ms, waits.shortest_ms) == (10_000, 2_000, 2_000)
    assert limits(settings).max_trace_bytes == 5_000_000
    assert settings.shortest_wait_secs == 2
    assert settings.longest_wait_secs == 10


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert type(wiring.sampler_of(settings)) is Sampler
    waits = wiring.waits_of(settings)
    assert (waits.decision_wait_ms, waits.root_wait_ms) == (0, 0)
    assert limits(settings).max_trace_bytes == 0
    assert settings.shortest_wait_secs == settings.app.root_quiet_secs


def test_the_guides_policies_are_off_beside_it(tmp_path: Path) -> None:
    sampling = loaded(tmp_path, otelTailSampling=SECTION).sampling
    assert sampling.guides == {}
    assert sampling.in_force == {"probes": "drop", "errors": "status_code", "some": "probabilistic"}
    assert [*sampling.keeping] == ["errors", "some"]  # what an exporter's match may name


@pytest.mark.parametrize(
    ("beside", "key"),
    [
        ({"policies": [{"name": "a", "keep": 1}]}, "sampling.policies"),
        ({"alwaysSampleErrors": True}, "sampling.alwaysSampleErrors"),
        ({"sampleLatency": True}, "sampling.sampleLatency"),
        ({"defaultSampleRate": 0.1}, "sampling.defaultSampleRate"),
    ],
)
def test_it_stands_alone(beside: dict[str, Any], key: str, tmp_path: Path) -> None:
    (error,) = wrong(tmp_path, otelTailSampling=SECTION, **beside)
    assert error.startswith(f"{key}: found policies beside a Collector's section")
    assert "tss import otel" in error


def test_errors_have_their_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(tmp_path, otelTailSampling={"policies": [{"name": "a", "type": "latancy"}]})
    (error,) = refused.value.errors
    lines = (tmp_path / "tss.yaml").read_text().splitlines()
    assert "latancy" in lines[error.line - 1]


def test_errors_have_the_path_what_was_found_and_what_is_allowed(tmp_path: Path) -> None:
    policies = [{"name": "a", "type": "latency", "latency": {"threshold_ms": "5s"}}, {"name": "b", "type": "composite"}]
    first, second = wrong(tmp_path, otelTailSampling={"policies": policies})
    assert "sampling.otelTailSampling.policies[0].latency.threshold_ms: found '5s'; allowed: a whole number" in first
    assert "sampling.otelTailSampling.policies[1].type: found 'composite'" in second
    assert "will come in a later version" in second


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"otelTailSampling": []}, "sampling.otelTailSampling: found a list"),
        ({"otelTailSampling": {"tail_sampling": SECTION}}, "copy only what stands below tail_sampling"),
        ({"otelTailSampling": SECTION, "otelGates": ["usetracestat"]}, "did you mean usetracestate?"),
        ({"otelTailSampling": SECTION, "otelGates": "usetracestate"}, "sampling.otelGates: found"),
        ({"otelTailSampling": SECTION, "otelVersion": "0.5"}, "one of 0.161, 0.165"),
    ],
)
def test_other_errors(sampling: dict[str, Any], words: str, tmp_path: Path) -> None:
    (error,) = wrong(tmp_path, **sampling)
    assert words in error


def test_check_says_it_in_words_and_warns(tmp_path: Path) -> None:
    settings = loaded(tmp_path, otelTailSampling=SECTION)
    told = in_force(settings)
    assert told["Decides"][0] == "10 s after the first span of the trace (decision_wait)"
    assert told["Decides"][1].startswith("or 2 s after its root")
    assert "probes (drop): drops traces with a span whose flags" in told["Keeps"][0]
    assert told["Keeps"][1] == "errors (status_code): samples traces with a span of status ERROR"
    assert told["Keeps"][2] == "some (probabilistic): samples 10 % of all traces"
    assert {each.key for each in warnings(settings)} == {"sampling.otelTailSampling.num_traces"}
    assert [str(each) for each in differences(settings) if each.key.startswith("sampling")] == [
        "sampling.otelTailSampling: a Collector's section, see above (default: null)"
    ]


def test_keys_that_have_no_effect_are_told(tmp_path: Path) -> None:
    assert "sampling.otelGates" in without_effect(loaded(tmp_path, otelGates=["usetracestate"]))
    beside = loaded(tmp_path, otelTailSampling=SECTION, combine="first", otelGates=["usetracestate"])
    assert [each for each in without_effect(beside) if each.startswith("sampling")] == ["sampling.combine"]


def test_the_effective_settings_load_again(tmp_path: Path) -> None:
    settings = loaded(tmp_path, otelTailSampling=SECTION, otelVersion="0.165", otelGates=["usetracestate"])
    again = tmp_path / "again.yaml"
    again.write_text(render(settings))
    assert load(str(again), {}).sampling == settings.sampling


def places(value: object) -> Iterator[Any]:
    """Sections with this value at every place that a section has."""
    yield value
    for key in known_keys(Section):
        yield {"policies": [{"name": "a", "type": "always_sample"}]} | {key: value}
        yield {"policies": [{"name": "a", "type": "always_sample"}], key: [value, value]}
    for kind, block in {**BLOCKS, **NESTED}.items():
        yield {"policies": [{"name": "a", "type": kind, kind: value}]}
        for key in known_keys(block):
            for given in (value, [value, value]):
                yield {"policies": [{"name": "a", "type": kind, kind: {key: given}}]}
                yield {"policies": [{"name": "a", "type": kind, kind: {"key": "k", "values": ["a"]} | {key: given}}]}
    for name in ("name", "type", "other", 5):
        yield {"policies": [{"name": "a", "type": "always_sample", name: value}]}
    if isinstance(value, str):
        yield {"policies": [{"name": "a", "type": "always_sample", value: 1}], value: 1}


@pytest.mark.parametrize("value", HARD, ids=lambda value: f"{value!r:.30}")
def test_nothing_but_refusals_comes_out_of_a_section(value: object) -> None:
    for section in places(value):
        with suppress(InvalidValue):
            otel.section.read(section)
            assert section is None or Sampling(otel_tail_sampling=section).plan
