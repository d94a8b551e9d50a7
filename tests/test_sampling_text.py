"""The `sampling` section as a text: what is written is read again, and equal sections have one fingerprint."""

import json

import attrs
import pytest

from tss.settings import Sampling, SettingsError, fingerprint_of, sampling_of, text_of

TEXTS = [
    "{}",
    "defaultSampleRate: 0.1",
    "policies:\n- {name: slow, keep: 10%, when: {latency: '> 2s'}}\n- {name: probes, drop: true, when: {route: /health}}",
    'policies:\n- {name: pay, keep: 1, when: \'attributes["a"] == "b" and trace.spans > 3\', mode: shadow}\ncombine: first',
    "otelTailSampling: {decision_wait: 5s, policies: [{name: a, type: latency, latency: {threshold_ms: 500}}]}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_written_is_read_again(text: str) -> None:
    found = sampling_of(text)
    again = sampling_of(text_of(found))
    assert (again, text_of(again), fingerprint_of(again)) == (found, text_of(found), fingerprint_of(found))
    assert json.loads(text_of(found))


def test_the_fingerprint_is_of_what_decides() -> None:
    assert fingerprint_of(sampling_of("policies: [{name: a, keep: 0.5, when: {latency: '> 2s'}}]")) == fingerprint_of(
        sampling_of(
            '{"combine": "HIGHEST", "policies": [{"when": {"latency": ">2000ms"}, "keep": "50%", "name": "a"}]}'
        )
    )
    assert fingerprint_of(Sampling()) == fingerprint_of(attrs.evolve(Sampling(), weights=False))
    one, two = sampling_of("defaultSampleRate: 0.1"), sampling_of("defaultSampleRate: 0.2")
    assert fingerprint_of(one) != fingerprint_of(two)
    idle = sampling_of("sampleLatency: false\nlatencyThresholdMs: 7")
    assert fingerprint_of(idle) == fingerprint_of(sampling_of("sampleLatency: false"))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("defaultSampleRate: 3", "sampling.defaultSampleRate"),
        ("policies: [{name: errors, keep: 1}]\nalwaysSampleErrors: true", "sampling.policies[0].name"),
        ("nonsense: 1", "sampling.nonsense"),
        ("sampling: {}", "sampling"),
        ("[", "sampling"),
        ("", "sampling"),
        ("a: 1\na: 2", "sampling.a"),
        ("x" * (1 << 21), "sampling"),
    ],
)
def test_a_wrong_text_is_refused_with_paths(text: str, path: str) -> None:
    with pytest.raises(SettingsError) as refused:
        sampling_of(text)
    assert path in {error.path for error in refused.value.errors}


def test_what_needs_a_restart_is_refused() -> None:
    started = attrs.evolve(Sampling(), weights=False)
    assert not sampling_of("defaultSampleRate: 1", started).weights, "a text need not have it"
    with pytest.raises(
        SettingsError, match=r"sampling\.weights: found true; allowed: false, as the daemon was started"
    ):
        sampling_of("weights: true", started)
    with pytest.raises(SettingsError, match="another maximum size"):
        sampling_of(TEXTS[-1], started)
    waits = sampling_of(TEXTS[-1])
    assert sampling_of(TEXTS[-1].replace("500", "700"), waits) != waits
