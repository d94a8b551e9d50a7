"""Numbers with units: what is taken, to which number it comes, and what is answered to the rest."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tss.settings import SettingsError, load
from tss.settings.environment import VARIABLES
from tss.settings.keys import about, camel, fields
from tss.settings.kinds.units import BYTES, MILLISECONDS, SECONDS, SHARE, Units
from tss.settings.model import SECTIONS
from tss.settings.schema import settings_schema
from tss.settings.sections.exporters import EXPORTERS

LEAST = {"TSS_KAFKA_BROKERS": "kafka:9092", "TSS_DATADOG_AGENT_URL": "http://agent:8126"}
SECTION_OF = {camel(name): name for name in SECTIONS}
VALIDATOR = Draft7Validator(settings_schema())

TAKEN = [
    ("app.rootQuietSecs", "30s", 30),
    ("app.rootQuietSecs", "30 s", 30),
    ("app.rootQuietSecs", "500ms", 0.5),
    ("app.rootQuietSecs", "1.5m", 90),
    ("app.rootQuietSecs", "0s", 0),
    ("app.inactivityTimeoutSecs", "1h30m", 5400),
    ("app.inactivityTimeoutSecs", "1h 30m", 5400),
    ("app.maxTraceDurationSecs", "7d", 604_800),
    ("kafka.sessionTimeoutMs", "45s", 45_000),
    ("kafka.sessionTimeoutMs", "1.5s", 1500),
    ("sampling.latencyThresholdMs", "0.5ms", 0.5),
    ("spanMetrics.bucketsMs", "[2ms, 4, 1.5 s]", (2, 4, 1500)),
    ("forceSampling.maxDurationSecs", "364d", 31_449_600),
    ("app.maxBufferBytes", "2GiB", 2 * 1024**3),
    ("app.maxBufferBytes", "2Gi", 2 * 1024**3),
    ("app.maxBufferBytes", "1.5 MiB", 3 * 512 * 1024),
    ("app.maxBufferBytes", "500MB", 500_000_000),
    ("app.maxBufferBytes", "7B", 7),
    ("redis.maxParkedBytes", "3kB", 3000),
    ("sampling.errorSampleRate", "10%", 0.1),
    ("sampling.errorSampleRate", "0.5 %", 0.005),
    ("sampling.errorSampleRate", "100 %", 1),
]


@pytest.mark.parametrize(("key", "written", "expected"), TAKEN)
def test_units_are_taken_from_the_file_and_from_a_variable(
    tmp_path: Path, key: str, written: str, expected: object
) -> None:
    section, name = key.split(".")
    file = tmp_path / "tss.yaml"
    file.write_text(f"{section}: {{{name}: {written}}}\n")
    snake = {camel(field.name): field.name for field in fields(SECTIONS[SECTION_OF[section]])}
    variable = next(each for each, known in VARIABLES.items() if known.key == key)
    for settings in (load(str(file), LEAST), load(None, LEAST | {variable: written})):
        assert getattr(getattr(settings, SECTION_OF[section]), snake[name]) == expected
    assert not list(VALIDATOR.iter_errors(yaml.safe_load(file.read_text())))


@pytest.mark.parametrize(
    ("key", "written", "hint"),
    [
        ("app.rootQuietSecs", "30 sec", 'write 30 or "30s"'),
        ("app.rootQuietSecs", "5min", 'write 300 or "5m"'),
        ("app.rootQuietSecs", "2GiB", 'write 30 or "30s"; units: ms, s, m, h, d'),
        ("app.rootQuietSecs", "5M", 'did you mean "5ms" or "5m"?'),
        ("app.rootQuietSecs", "-5s", 'write 30 or "30s"; units: ms, s, m, h, d'),
        ("app.rootQuietSecs", "a while", 'write 30 or "30s"; units: ms, s, m, h, d'),
        ("app.rootQuietSecs", "'45'", 'write the number without quotes, or with a unit ("45s")'),
        ("app.rootQuietSecs", "'1h,30m'", 'write 30 or "30s"; units: ms, s, m, h, d'),
        ("app.rootQuietSecs", "1000h", "that is 3,600,000 seconds"),
        ("app.rootQuietSecs", "9" * 5000 + "s", "write 30 or"),
        ("kafka.sessionTimeoutMs", "0.5ms", "that is 0.5 milliseconds"),
        ("kafka.sessionTimeoutMs", "30 seconds", 'write 30000 or "30s"'),
        ("spanMetrics.bucketsMs", "[2 secs]", 'write 2000 or "2s"'),
        ("app.maxBufferBytes", "30s", 'write 67108864 or "64MiB"; units: B, '),
        ("app.maxBufferBytes", "512M", 'did you mean "512MiB" or "512Mi" or "512MB"?'),
        ("app.maxBufferBytes", "512Mb", 'did you mean "512MB"?'),
        ("app.maxBufferBytes", "0.1B", "that is 0.1 bytes"),
        ("sampling.errorSampleRate", "10 percent", 'write 0.1 or "10%"'),
        ("sampling.errorSampleRate", "110%", "that is 1.1 as a number"),
        ("sampling.errorSampleRate", "10", 'for 10 percent write 0.1 or "10%"'),
        ("app.maxBufferSpans", "1M", "write the number in full, without a unit"),
    ],
)
def test_other_units_are_answered_with_the_right_form(tmp_path: Path, key: str, written: str, hint: str) -> None:
    section, name = key.split(".")
    file = tmp_path / "tss.yaml"
    file.write_text(f"{section}: {{{name}: {written}}}\n")
    with pytest.raises(SettingsError) as caught:
        load(str(file), LEAST)
    (error,) = caught.value.errors
    assert error.path.startswith(key)
    assert hint in error.hint
    for refused in re.findall(r'write [\d.]+ or "([^"]+)"', error.hint):  # a hint that is refused itself is no help
        assert not list(VALIDATOR.iter_errors({section: {name: [refused] if "[" in written else refused}}))
    if key != "kafka.sessionTimeoutMs" and "that is" not in hint:  # a schema cannot calculate
        assert list(VALIDATOR.iter_errors(yaml.safe_load(file.read_text())))


@pytest.mark.parametrize("section", [*SECTIONS.values(), *EXPORTERS.values()])
def test_every_key_whose_name_has_a_unit_takes_it_and_no_other_key_does(section: type) -> None:
    units: dict[str, Units] = {"secs": SECONDS, "ms": MILLISECONDS, "bytes": BYTES, "rate": SHARE}
    for field in fields(section):
        expected = units.get(field.name.rpartition("_")[2])
        schema: Any = about(field).kind.schema
        schema = schema.get("items", schema)
        is_number = {"number", "integer"} & {*schema.get("type", ())}
        assert (schema.get("pattern") if is_number else None) == (expected.pattern if expected else None), field.name


@pytest.mark.parametrize("units", [SECONDS, MILLISECONDS, BYTES, SHARE], ids=lambda units: units.own)
def test_helm_and_editors_can_compile_the_pattern(units: Units) -> None:
    import re2  # Helm's expressions are RE2

    assert re2.compile(units.pattern).match(units.example)
    assert not re.search(r"\(\?[=!<]", units.pattern)
