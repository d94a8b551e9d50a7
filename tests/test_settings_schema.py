"""The settings as JSON Schema: it takes whatever the daemon takes, and refuses what it can."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tss.settings import (
    Datadog,
    DatadogExporter,
    DecisionsExporter,
    FileExporter,
    Kafka,
    KafkaExporter,
    OtlpExporter,
    ParquetExporter,
    Settings,
    render,
)
from tss.settings.keys import camel, fields
from tss.settings.model import SECTIONS
from tss.settings.schema import document_schema, settings_schema
from tss.settings.sections.exporters import EXPORTERS

SCHEMA = settings_schema()
VALIDATOR = Draft7Validator(SCHEMA)
# Every section with its defaults, and an exporter of each type.
FULL = Settings(
    kafka=Kafka(brokers="kafka:9092", properties={"fetch.min.bytes": "5"}),
    datadog=Datadog(api_key="a-key"),
    exporters=(
        FileExporter(name="a", path="/a"),
        ParquetExporter(name="b", path="/b"),
        OtlpExporter(name="c", endpoint="http://c:4318", headers={"a": "b"}),
        DatadogExporter(name="d", api_key="k", match={"policies": ("errors",), "attributes": {"a": ("b", "c")}}),
        KafkaExporter(name="e", topic="kept"),
        DecisionsExporter(name="f", path="/f"),
    ),
)


def errors(document: object) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATOR.iter_errors(document)]


def full() -> dict[str, Any]:
    return dict(yaml.safe_load(render(FULL)))


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)


def test_it_takes_every_default_and_every_type_of_exporter() -> None:
    assert {each.type for each in FULL.exporters} == EXPORTERS.keys()
    assert errors(full()) == []


def test_each_default_is_valid() -> None:
    with_default = [each for each in _within(SCHEMA) if "default" in each and "description" in each]
    assert len(with_default) > 100
    for each in with_default:
        assert Draft7Validator(each).is_valid(each["default"]), each


def _within(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _within(each)


def test_it_takes_null_for_every_key_as_the_daemon_does() -> None:
    for section, cls in SECTIONS.items():
        document: dict[str, Any] = {camel(key.name): None for key in fields(cls)}
        for name in reversed(camel(section).split(".")):
            document = {name: document}
        assert errors(document) == []


@pytest.mark.parametrize("section", SECTIONS)
def test_it_knows_every_key_and_no_other(section: str) -> None:
    found: Any = SCHEMA
    for name in camel(section).split("."):
        found = found["properties"][name]
    inner = {camel(name.rpartition(".")[2]) for name in SECTIONS if name.rpartition(".")[0] == section}
    assert found["properties"].keys() == {camel(key.name) for key in fields(SECTIONS[section])} | inner
    assert all(each["description"] for each in found["properties"].values())
    document: Any = {"nonsense": 1}
    for name in reversed(camel(section).split(".")):
        document = {name: document}
    assert any("nonsense" in error for error in errors(document))


# What the tests of the settings say that the daemon takes, beside the defaults.
TAKEN = [
    {"redis": None, "exporters": None, "kafka": {"rekey": None}},
    {"kafka": {"brokers": ["a:1", "b:2"]}},
    {"kafka": {"properties": {"a": 1, "b": True, "c": "x"}}},
    {"observability": {"logLevel": "WARN"}},
    {"observability": {"logLevel": "INFO"}},
    {"kafka": {"saslMechanism": "scram-sha-256", "securityProtocol": "SASL_SSL"}},
    {"app": {"maxBufferSpans": 1e6, "rootQuietSecs": 1.5}},
    {"spanCompression": {"sqlPatterns": ["a", {"pattern": "b", "isRegex": True, "groupName": "c"}]}},
    {"spanMetrics": {"dimensions": ["a", "b=c", {"name": "d", "default": "e"}], "bucketsMs": [0.5, 1]}},
    {"exporters": [{"name": "a", "type": "file", "path": "b", "match": {"attributes": {"x": 1, "y": [True, "z"]}}}]},
]


@pytest.mark.parametrize("document", TAKEN, ids=str)
def test_it_takes_the_ways_in_which_a_value_can_be_written(document: object) -> None:
    assert errors(document) == []


REFUSED = [
    {"app": {"maxBufferSpans": "many"}},
    {"app": {"maxBufferSpans": 0}},
    {"app": {"shutdownTimeoutSecs": 0}},
    {"app": {"evaluationWorkers": 65}},
    {"sampling": {"errorSampleRate": 1.01}},
    {"sampling": {"alwaysSampleErrors": "yes"}},
    {"observability": {"logLevel": "loud"}},
    {"kafka": {"brokers": []}},
    {"kafka": {"inputTopic": 3}},
    {"exporters": [{"name": "a", "type": "nonsense"}]},
    {"exporters": [{"type": "file", "path": "b"}]},
    {"exporters": [{"name": "a", "type": "otlp", "endpoint": "http://a", "paht": 1}]},
    {"nonsense": {}},
]


@pytest.mark.parametrize("document", REFUSED, ids=str)
def test_it_refuses_what_can_be_refused_without_reading(document: object) -> None:
    assert errors(document)


def test_it_is_made_anew_each_time() -> None:
    before = copy.deepcopy(SCHEMA)
    settings_schema()["properties"].clear()
    assert settings_schema() == before


# ---- as it is published for editors

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = json.loads((ROOT / "docs" / "tss.schema.json").read_text())


def test_the_published_schema_is_fresh() -> None:
    assert document_schema() == PUBLISHED, "run: make docs"
    Draft7Validator.check_schema(PUBLISHED)


def _examples() -> Iterator[Any]:
    """Every tss.yaml of the repository, and what its pages show of one."""
    compose = ROOT / "deploy" / "compose" / "tss.yaml"
    yield pytest.param(yaml.safe_load(compose.read_text()), id=str(compose.relative_to(ROOT)))
    for values in sorted((ROOT / "helm-charts").glob("*/ci/*-values.yaml")):
        yield pytest.param(yaml.safe_load(values.read_text())["config"], id=values.name)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            document = yaml.safe_load(block)
            if isinstance(document, dict) and document.keys() & PUBLISHED["properties"].keys():
                yield pytest.param(document, id=f"{page.name}: {', '.join(document)}")


EXAMPLES = [*_examples()]


@pytest.mark.parametrize("document", EXAMPLES)
def test_every_example_is_valid(document: object) -> None:
    assert [error.message for error in Draft7Validator(PUBLISHED).iter_errors(document)] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 10


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {broker: 'kafka:9092'}",
        "kafak: {brokers: 'kafka:9092'}",
        "exporters: [{name: a, type: file, pth: kept.jsonl, path: kept.jsonl}]",
        "kafka: {rekey: {enable: true}}",
        "exporters: [{name: a, type: file}]",
        "app: {rootQuietSecs: 30 sec}",
        "app: {maxBufferBytes: 2GB of memory}",
    ],
)
def test_a_misspelt_document_is_not(text: str) -> None:
    assert list(Draft7Validator(PUBLISHED).iter_errors(yaml.safe_load(text)))
