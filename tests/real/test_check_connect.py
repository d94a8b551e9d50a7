"""`tss check --connect` at real servers: what answers, what does not, and that nobody notices it was there."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import yaml

from tests.contracts.source import Sent
from tests.core.spans import message, span, trace_id
from tests.real.brokers import USER, ApacheKafka, Broker, free_ports
from tests.real.kafka_world import produce
from tests.real.redis_server import RedisServer
from tests.sinks import OtlpSink, Reply
from tss.__main__ import main
from tss.commands import DONE, FAILED

_names = itertools.count(1)


def sent(number: int, partition: int = 0, *, keyed: bool = True) -> Sent:
    return Sent(message([span(number, number)]), partition, key=trace_id(number).hex().encode() if keyed else None)


@pytest.fixture
def asked(tmp_path: Path, capsys):
    """The exit code, and by what was asked whether it answers and in which words."""

    def ask(**sections: object) -> tuple[int, dict[str, tuple[bool, str]]]:
        file = tmp_path / "tss.yaml"
        file.write_text(yaml.safe_dump({"deadLetter": {"path": str(tmp_path / "dead" / "letters")}} | sections))
        code = main(["check", "--connect", "--json", "--config", str(file)], {})
        answers = json.loads(capsys.readouterr().out)["answers"]
        assert not (tmp_path / "dead").exists()
        return code, {each["asked"]: (each["ok"], each["text"]) for each in answers}

    return ask


def topic_of(broker: Broker, partitions: int = 2) -> str:
    name = f"checked-{next(_names)}"
    broker.create_topic(name, partitions)
    return name


def test_all_that_answers_is_told(broker: Broker, redis: RedisServer, asked) -> None:
    topic = topic_of(broker)
    produce(broker.bootstrap, topic, [sent(number, number % 2) for number in range(300)])
    with OtlpSink() as sink:
        code, found = asked(
            kafka={"brokers": broker.bootstrap, "inputTopic": topic},
            redis={"url": redis.url},
            exporters=[{"name": "backend", "type": "otlp", "endpoint": sink.url}],
        )
        assert sink.span_count == 0
    assert code == DONE, found
    assert all(ok for ok, _ in found.values())
    assert found[f"kafka.inputTopic {topic}"] == (True, "2 partitions")
    assert "records are keyed by trace id" in found[f"keys of {topic}"][1]
    assert found["Redis"] == (True, "takes a small write")
    assert "takes an empty request" in found["exporter backend"][1]


def test_it_joins_no_group(apache: Broker, asked) -> None:
    topic = topic_of(apache)
    produce(apache.bootstrap, topic, [sent(1)])
    asked(
        kafka={"brokers": apache.bootstrap, "inputTopic": topic, "consumerGroup": f"group of {topic}"},
        exporters=[{"name": "file", "type": "file", "path": "kept"}],
    )
    groups = apache.admin().list_consumer_groups().result()
    assert f"group of {topic}" not in {each.group_id for each in groups.valid}


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([sent(number, number % 2, keyed=False) for number in range(50)], "50 of the newest 50 records are not keyed"),
        ([sent(1, 0), sent(1, 1)], "1 traces are on several partitions"),
        ([Sent(b"no OTLP at all", 0)], "none of the newest 1 records is OTLP"),
    ],
)
def test_input_that_is_not_keyed_or_not_otlp_is_told(apache: Broker, asked, records: list[Sent], words: str) -> None:
    topic = topic_of(apache)
    produce(apache.bootstrap, topic, records)
    code, found = asked(
        kafka={"brokers": apache.bootstrap, "inputTopic": topic},
        exporters=[{"name": "file", "type": "file", "path": "kept"}],
    )
    ok, text = found[f"keys of {topic}"]
    assert (code, ok) == (FAILED, False) and words in text


def test_topics_that_are_missing_are_told_by_the_key_that_names_them(apache: Broker, asked) -> None:
    code, found = asked(
        kafka={"brokers": apache.bootstrap, "inputTopic": "missing-in"},
        exporters=[{"name": "kept", "type": "kafka", "topic": "missing-out"}],
        deadLetter={"type": "topic", "topic": "missing-dead"},
    )
    assert code == FAILED
    for key, topic in (("kafka.inputTopic", "in"), ("exporters[0].topic", "out"), ("deadLetter.topic", "dead")):
        ok, text = found[f"{key} missing-{topic}"]
        assert not ok and text == f"it does not exist; create the topic, or check {key}"
    assert not [name for name in apache.admin().list_topics(timeout=10).topics if name.startswith("missing-")]


def test_servers_that_are_away_are_told_each_in_a_line(asked) -> None:
    kafka, redis, backend = free_ports(3)
    code, found = asked(
        kafka={"brokers": f"127.0.0.1:{kafka}", "inputTopic": "a"},
        redis={"url": f"redis://127.0.0.1:{redis}"},
        exporters=[{"name": "backend", "type": "otlp", "endpoint": f"http://127.0.0.1:{backend}"}],
    )
    assert code == FAILED
    del found["deadLetter.path"]
    assert len(found) == 3 and not any(ok for ok, _ in found.values())
    said = found[f"Kafka at 127.0.0.1:{kafka}"][1]
    assert (
        said
        == f"Connect to 127.0.0.1:{kafka} failed: Connection refused; check kafka.brokers, and that the brokers run"
    )
    assert "check redis.url" in found["Redis"][1]


def test_a_wrong_password_is_told_with_the_keys_to_check(apache: ApacheKafka, asked) -> None:
    kafka = {
        "brokers": f"127.0.0.1:{apache.sasl_port}",
        "inputTopic": "a",
        "securityProtocol": "sasl_plaintext",
        "saslUsername": USER,
        "saslPassword": "a-wrong-one",
    }
    code, found = asked(kafka=kafka, exporters=[{"name": "file", "type": "file", "path": "kept"}])
    ok, text = found[f"Kafka at {kafka['brokers']}"]
    assert (code, ok) == (FAILED, False) and "check kafka.saslUsername" in text and "a-wrong-one" not in text


def test_a_wrong_token_is_told_in_the_servers_words(apache: Broker, asked) -> None:
    topic = topic_of(apache)
    with OtlpSink() as sink:
        sink.script(Reply(401))
        code, found = asked(
            kafka={"brokers": apache.bootstrap, "inputTopic": topic},
            exporters=[{"name": "backend", "type": "otlp", "endpoint": sink.url}],
        )
    assert code == FAILED
    assert found["exporter backend"][1].startswith("does not take an empty request: 401 Unauthorized")
    assert found[f"keys of {topic}"] == (True, "no records could be read, so the keys are not known")
