"""Settings: which values are accepted, which are refused with which error, and that no secret is shown."""

import json
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tss.core.policies import policies
from tss.settings import (
    Datadog,
    DatadogExporter,
    FileExporter,
    InvalidSetting,
    KafkaExporter,
    OtlpExporter,
    ParquetExporter,
    Sampling,
    Settings,
    SettingsError,
    buffer_bytes,
    is_too_much,
    load,
    memory_limit_bytes,
    reference,
    render,
    secrets,
    without_effect,
)
from tss.settings.environment import VARIABLES
from tss.settings.keys import about, camel, fields
from tss.settings.kinds.patterns import SqlPattern
from tss.settings.model import SECTIONS
from tss.settings.redis_url import RedisUrl, parse
from tss.settings.sections.exporters import EXPORTERS

MIB = 1024 * 1024

# The config section of the deployment guide's production values.
PRODUCTION = """\
app:
  instanceId: ""
  maxBufferSpans: 1000000
  maxBufferTraces: 100000
  shutdownTimeoutSecs: 30
  evaluationWorkers: 4
  gracefulShutdown: true
  inactivityTimeoutSecs: 600
  maxTraceDurationSecs: 10800

kafka:
  brokers: "kafka-0.kafka-headless:9092,kafka-1.kafka-headless:9092"
  inputTopic: "otel-traces-raw"
  consumerGroup: "tail-sampling-selector"
  autoOffsetReset: "latest"
  enableAutoCommit: true
  sessionTimeoutMs: 30000

redis:
  url: "redis://redis-master:6379"
  password: ""
  poolSize: 10
  connectionTimeoutSecs: 5

datadog:
  apiEndpoint: "https://api.datadoghq.com"
  apiKey: ""
  applicationKey: ""
  batchEnabled: true
  batchSize: 100
  batchTimeoutSecs: 5
  requestTimeoutSecs: 30
  maxRetries: 3
  retryInitialDelayMs: 1000

sampling:
  alwaysSampleErrors: true
  errorSampleRate: 1.0
  sampleLatency: true
  latencyThresholdMs: 5000
  latencySampleRate: 0.1

observability:
  logLevel: "info"
  jsonLogging: true
  enablePrometheus: true
  metricsPort: 9090
  metricsAddr: "0.0.0.0"
  enableHealthCheck: true
  healthPort: 8080
  healthAddr: "0.0.0.0"
  serviceName: "tail-sampling-selector"

spanCompression:
  enabled: true
  minCompressionCount: 3
  compressionWindowSecs: 60
  maxSpanDurationSecs: 60
  compressOperations: []
  excludeOperations: []
  sqlPatterns: []
"""

# The required settings, from the environment, so that the file of a test has only the keys that the test is about.
LEAST = {"TSS_KAFKA_BROKERS": "kafka:9092", "TSS_DATADOG_AGENT_URL": "http://agent:8126"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tss.yaml"


@pytest.fixture
def accept(file: Path) -> Any:
    def accept(text: str = "", environ: dict[str, str] | None = None, least: bool = True) -> Settings:
        file.write_text(text)
        return load(str(file), (LEAST if least else {}) | (environ or {}))

    return accept


@pytest.fixture
def refuse(accept: Any) -> Any:
    def refuse(text: str = "", environ: dict[str, str] | None = None, least: bool = True) -> tuple[InvalidSetting, ...]:
        with pytest.raises(SettingsError) as caught:
            accept(text, environ, least)
        return caught.value.errors

    return refuse


@pytest.fixture
def refuse_one(refuse: Any) -> Any:
    def refuse_one(text: str = "", environ: dict[str, str] | None = None, least: bool = True) -> InvalidSetting:
        errors: tuple[InvalidSetting, ...] = refuse(text, environ, least)
        assert len(errors) == 1, errors
        return errors[0]

    return refuse_one


def paths(errors: tuple[InvalidSetting, ...]) -> list[str]:
    return [error.path for error in errors]


# ---- the guide


def test_production_values_are_accepted_as_printed(accept: Any) -> None:
    settings = accept(PRODUCTION, {"TSS_DATADOG_API_KEY": "x"}, least=False)
    assert settings.kafka.brokers == "kafka-0.kafka-headless:9092,kafka-1.kafka-headless:9092"
    assert settings.redis.url == "redis://redis-master:6379"
    assert settings.effective_exporters == (
        DatadogExporter(name="datadog", via="intake", site="datadoghq.com", api_key="x"),
    )
    assert without_effect(settings) == []


def test_production_values_are_the_defaults(accept: Any) -> None:
    """Except for an address and a switch that is off, a chart may omit each of these keys."""
    kept = PRODUCTION.replace("redis://redis-master:6379", "").replace("  enabled: true", "  enabled: false")
    environ = LEAST | {"TSS_KAFKA_BROKERS": "kafka-0.kafka-headless:9092,kafka-1.kafka-headless:9092"}
    assert accept(kept, environ) == accept("", environ)


def test_a_helm_values_file_is_told_as_such_and_read_on(refuse: Any) -> None:
    errors = refuse("replicaCount: 3\nconfig:\n  kafka: {autoOffsetReset: newest}\n")
    assert paths(errors) == ["config", "kafka.autoOffsetReset"]
    assert "Helm values" in errors[0].hint


# ---- defaults and derived values


def test_null_sections_and_values_mean_defaults(accept: Any) -> None:
    assert accept("app:\nkafka:\n  encoding: null\nexporters:\n") == accept("")
    assert load(None, LEAST) == accept("")


def test_derived_values_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemFree: 1 kB\nMemTotal: {1024 * 1024} kB\n")
    app = load(None, LEAST, root=tmp_path).app
    assert app.max_buffer_bytes == (1024 - 128) * MIB * 2 // 3
    assert app.instance_id
    assert load(None, LEAST | {"TSS_APP_MAX_BUFFER_BYTES": "7"}, root=tmp_path).app.max_buffer_bytes == 7


def test_a_number_that_means_no_limit_is_one_that_fits_into_64_bits() -> None:
    assert load(None, LEAST | {"TSS_APP_MAX_BUFFER_SPANS": str(10**30)}).app.max_buffer_spans == 2**53


@pytest.mark.parametrize(
    ("limit_mib", "buffer_mib"), [(1028, 600), (512, 256), (224, 64), (100, 32), (1, 32), (8192, 5376)]
)
def test_buffer_bytes(limit_mib: int, buffer_mib: float) -> None:
    assert buffer_bytes(limit_mib * MIB) == int(buffer_mib * MIB)


@pytest.mark.parametrize("limit_mib", [1, 128, 160, 512, 8192])
def test_only_what_a_setting_claims_can_be_too_much(limit_mib: int) -> None:
    limit = limit_mib * MIB
    assert not is_too_much(buffer_bytes(limit), limit)
    assert is_too_much(max(limit, 33 * MIB), limit)


@pytest.mark.parametrize(
    ("files", "limit_mib"),
    [
        ({}, 512),
        ({"proc/meminfo": f"MemTotal: {700 * 1024} kB"}, 700),
        ({"proc/meminfo": f"MemTotal: {700 * 1024} kB", "sys/fs/cgroup/memory.max": "max\n"}, 700),
        ({"proc/meminfo": f"MemTotal: {700 * 1024} kB", "sys/fs/cgroup/memory.max": f"{300 * MIB}\n"}, 300),
        ({"proc/meminfo": f"MemTotal: {200 * 1024} kB", "sys/fs/cgroup/memory.max": f"{300 * MIB}\n"}, 200),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{300 * MIB}"}, 300),
        (
            {
                "proc/meminfo": f"MemTotal: {700 * 1024} kB",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            700,
        ),
        ({"proc/self/cgroup": "0::/a.slice/b.service\n", "sys/fs/cgroup/a.slice/memory.max": f"{90 * MIB}"}, 90),
        ({"proc/self/cgroup": "4:memory:/x/y\n", "sys/fs/cgroup/memory/x/y/memory.limit_in_bytes": f"{80 * MIB}"}, 80),
    ],
)
def test_memory_limit(tmp_path: Path, files: dict[str, str], limit_mib: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit_bytes(tmp_path) == limit_mib * MIB


@pytest.mark.parametrize(
    ("keys", "protocol"),
    [
        ("{}", "plaintext"),
        ("{sslCaLocation: ca.crt}", "ssl"),
        ("{sslCertificateLocation: c, sslKeyLocation: k}", "ssl"),
        ("{saslUsername: u, saslPassword: p}", "sasl_ssl"),
        ("{saslUsername: u, saslPassword: p, securityProtocol: sasl_plaintext}", "sasl_plaintext"),
    ],
)
def test_security_protocol_follows_from_the_credentials(accept: Any, keys: str, protocol: str) -> None:
    assert accept(f"kafka: {keys}").kafka.security_protocol == protocol


# ---- kinds of value


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("kafka.brokers", "' a:1 , b:2'", "a:1,b:2"),
        ("kafka.brokers", "['a:1', '[::1]:9092']", "a:1,[::1]:9092"),
        ("app.maxBufferSpans", "1e+06", 1_000_000),  # as Helm prints it
        ("observability.healthPort", "0.0", 0),
        ("app.rootQuietSecs", "0.5", 0.5),
        ("app.replaySecs", "0", 0),
        ("observability.metricsPort", "0", 0),
        ("observability.logLevel", "WARN", "warning"),
        ("observability.jsonLogging", "no", False),
        ("kafka.partitionAssignmentStrategy", "range", "range"),
        ("kafka.saslMechanism", "scram-sha-512", "SCRAM-SHA-512"),
        ("kafka.properties", "{fetch.min.bytes: 5, check.crcs: true, client.id: x}", None),
        ("spanCompression.sqlPatterns", "[a, b]", (SqlPattern(pattern="a"), SqlPattern(pattern="b"))),
        ("app.instanceId", "2024-01-01", "2024-01-01"),
        ("app.instanceId", "012", "012"),
    ],
)
def test_accepted(accept: Any, file: Path, key: str, value: str, expected: object) -> None:
    if key == "kafka.properties":
        expected = {"fetch.min.bytes": "5", "check.crcs": "true", "client.id": "x"}
    section, name = key.split(".")
    file.write_text(f"{section}: {{{name}: {value}}}")
    settings = load(str(file), {name: value for name, value in LEAST.items() if name != VARIABLE_OF.get(key)})
    snake = {camel(field.name): field.name for cls in SECTIONS.values() for field in fields(cls)}
    sections = {camel(section): section for section in SECTIONS}
    assert getattr(getattr(settings, sections[section]), snake[name]) == expected


VARIABLE_OF = {known.key: name for name, known in VARIABLES.items()}


@pytest.mark.parametrize(
    ("key", "value", "found", "allowed", "hint"),
    [
        ("app.maxBufferSpans", "true", "true", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", "'5'", "'5'", "a whole number, 1 or more", "without quotes"),
        ("app.maxBufferSpans", "0", "0", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", "-5", "-5", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", "1.5", "1.5", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", "010", "'010'", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", "1:30", "'1:30'", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", ".inf", "inf", "a whole number, 1 or more", ""),
        ("app.maxBufferSpans", "[1]", "a list", "a whole number, 1 or more", ""),
        ("app.gracefulShutdown", "1", "1", "true or false", ""),
        ("app.gracefulShutdown", "'true'", "'true'", "true or false", ""),
        ("app.inactivityTimeoutSecs", "0", "0", "above 0", ""),
        ("app.inactivityTimeoutSecs", "-1", "-1", "above 0", ""),
        ("app.inactivityTimeoutSecs", ".nan", "nan", "above 0", ""),
        ("app.inactivityTimeoutSecs", "1e999", "inf", "above 0", ""),
        ("app.inactivityTimeoutSecs", "600000000", "600000000", "604,800", ""),
        ("sampling.errorSampleRate", "1.01", "1.01", "a number, 0 to 1", ""),
        ("sampling.latencySampleRate", "-0.1", "-0.1", "a number, 0 to 1", ""),
        ("sampling.defaultSampleRate", "true", "true", "a number, 0 to 1", ""),
        ("observability.metricsPort", "65536", "65536", "0 to 65,535", ""),
        ("observability.logLevel", "infos", "'infos'", "one of debug, info, warning, error", "did you mean info?"),
        ("observability.serviceName", "5", "5", "text, not empty", "quotes"),
        ("observability.metricsAddr", "''", "''", "text, not empty", ""),
        ("kafka.autoOffsetReset", "latests", "'latests'", "one of latest, earliest", "did you mean latest?"),
        ("kafka.securityProtocol", "tls", "'tls'", 'one of "", plaintext', ""),
        ("kafka.inputTopic", "'a b'", "'a b'", "a topic's name", ""),
        ("kafka.inputTopic", "''", "''", "a topic's name", ""),
        ("kafka.consumerGroup", '"a\\nb"', r"'a\nb'", "without line breaks", ""),
        ("kafka.properties", "[a]", "a list", "a mapping of librdkafka properties", ""),
        ("datadog.apiEndpoint", "api.datadoghq.com", "'api.datadoghq.com'", "an address such as http", ""),
        ("datadog.apiEndpoint", "http://h:70000", "'http://h:70000'", "an address such as http", ""),
        ("datadog.apiEndpoint", "http://u:p@h", "'http://***@h'", "an address such as http", "no user or password"),
        ("datadog.apiEndpoint", "'http://h?a'", "'http://h?a'", "an address such as http", "base address"),
        ("redis.url", "http://:hunter2@h/", "'http://***@h/'", "an address such as redis://", ""),
        ("redis.url", "redis", "'redis'", "an address such as redis://", "begin with redis://"),
        ("redis.url", "'redis://:hunter2@h?db=1'", "'redis://***@h?db=1'", "an address such as redis://", "no ? here"),
        ("redis.url", "redis://h:70000", "'redis://h:70000'", "an address such as redis://", "host:port"),
        ("redis.url", "'redis://h:1,'", "'redis://h:1,'", "an address such as redis://", "host:port"),
        ("redis.url", "unix:///run/redis", "'unix:///run/redis'", "an address such as redis://", ""),
        ("spanCompression.sqlPatterns", "a", "'a'", "a list, each a text, or a mapping of pattern", ""),
        ("datadog.apiKey", "5", "***", "text", "quotes"),
        ("deadLetter.type", "files", "'files'", "one of file, topic, log", "did you mean file?"),
    ],
)
def test_refused(refuse_one: Any, key: str, value: str, found: str, allowed: str, hint: str) -> None:
    section, name = key.split(".")
    error = refuse_one(f"{section}: {{{name}: {value}}}")
    assert (error.path, error.found) == (key, found)
    assert allowed in error.allowed
    assert hint in error.hint
    assert str(error).startswith(f"{key} (line 1): found {found}; allowed: ")


@pytest.mark.parametrize("value", ["kafka", "kafka:0", "kafka:70000", "http://kafka:9092", "[]", "5", "''", "{}"])
def test_refused_brokers(refuse_one: Any, value: str) -> None:
    error = refuse_one(f"kafka: {{brokers: {value}}}", {"TSS_DATADOG_AGENT_URL": "http://a:1"}, least=False)
    assert error.path == "kafka.brokers"
    assert "host:port" in error.allowed


def test_errors_within_lists_and_maps_have_their_place(refuse: Any) -> None:
    errors = refuse(
        "kafka: {properties: {group.id: x, a: [1], enable.auto.commit: true, group.protocol: consumer}}\n"
        "spanCompression: {sqlPatterns: [a, 5, '']}\n"
    )
    assert paths(errors) == [
        "kafka.properties.group.id",
        "kafka.properties.a",
        "kafka.properties.enable.auto.commit",
        "kafka.properties.group.protocol",
        "spanCompression.sqlPatterns[1]",
        "spanCompression.sqlPatterns[2]",
    ]
    assert errors[0].hint == "use kafka.consumerGroup"
    assert "as traces finish" in errors[2].hint
    assert errors[3].hint == "use kafka.groupProtocol"


@pytest.mark.parametrize(
    ("key", "value", "path", "allowed", "hint"),
    [
        ("sqlPatterns", "[{pattern: '(a', isRegex: true}]", "[0].pattern", "a regular expression for RE2", "missing )"),
        ("sqlPatterns", "[a, {isRegex: true}]", "[1].pattern", "text, not empty", ""),
        ("sqlPatterns", "[{pattern: a, isRegex: 1}]", "[0].isRegex", "true or false", ""),
        ("sqlPatterns", "[{pattern: a, group: b}]", "[0].group", "pattern, isRegex, groupName", "groupName"),
        ("sqlPatterns", "[[a]]", "[0]", "a text, or a mapping", ""),
        ("compressOperations", "['re:[']", "[0]", "a regular expression for RE2", "missing ]"),
        ("excludeOperations", "SELECT", "", "a list of texts", ""),
        ("excludeOperations", "['re:a(?=b)']", "[0]", "no look-around", "(?="),
        ("sqlPatterns", r"[{pattern: '(a)\1', isRegex: true}]", "[0].pattern", "no backreferences", r"\1"),
    ],
)  # fmt: skip
def test_refused_in_span_compression(refuse_one: Any, key: str, value: str, path: str, allowed: str, hint: str) -> None:
    error = refuse_one(f"spanCompression: {{{key}: {value}}}")
    assert error.path == f"spanCompression.{key}{path}"
    assert allowed in error.allowed
    assert hint in error.hint


def test_sql_patterns_are_texts_or_mappings(accept: Any) -> None:
    given = "spanCompression: {sqlPatterns: [plain, {pattern: x}, {pattern: 'a(b)', isRegex: true, groupName: c}]}"
    assert accept(given).span_compression.sql_patterns == (
        SqlPattern(pattern="plain"),
        SqlPattern(pattern="x"),
        SqlPattern(pattern="a(b)", is_regex=True, group_name="c"),
    )


@pytest.mark.parametrize("name", ["enable.auto.offset.store", "auto.offset.reset", "bootstrap.servers"])
@pytest.mark.parametrize("other", ["statistics.interval.ms", "enable.partition.eof"])
def test_the_daemons_own_properties_are_refused_with_the_reason(refuse: Any, name: str, other: str) -> None:
    errors = refuse(f"kafka: {{properties: {{{name}: 1, {other}: 1}}}}")
    assert paths(errors) == [f"kafka.properties.{name}", f"kafka.properties.{other}"]
    assert all(error.hint for error in errors)


# ---- the file


def test_all_errors_at_once_one_line_each(accept: Any, file: Path) -> None:
    text = "kafka: {autoOfsetReset: latest, encoding: xml}\nexporters: [{name: a, type: file}]\napp: 5\n"
    with pytest.raises(SettingsError) as caught:
        accept(text, {"TSS_KAFKA_GROUP": "x"})
    lines = str(caught.value).splitlines()
    assert lines[0] == f"5 errors in the settings of {file} and the environment:"
    assert [re.split(r"[: ]", line.strip())[0] for line in lines[1:]] == [
        "TSS_KAFKA_GROUP",
        "app",
        "kafka.autoOfsetReset",
        "kafka.encoding",
        "exporters[0].path",
    ]


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("kafka: {autoOfsetReset: latest}", "kafka.autoOfsetReset", "did you mean kafka.autoOffsetReset?"),
        ("kafka: {auto_offset_reset: latest}", "kafka.auto_offset_reset", "did you mean kafka.autoOffsetReset?"),
        ("kafka: {apiKey: secret}", "kafka.apiKey", "did you mean datadog.apiKey?"),
        ("kafak: {}", "kafak", "did you mean kafka?"),
        ("span_compression: {}", "span_compression", "did you mean spanCompression?"),
        ("logLevel: debug", "logLevel", "did you mean observability.logLevel?"),
        ("zzz: 1", "zzz", ""),
        ("5: 1", "5", ""),
        ("exporters: [{name: a, type: file, path: p, pth: q}]", "exporters[0].pth", "did you mean exporters[0].path?"),
        ("exporters: [{name: a, type: file, path: p, maxInFlight: 2}]", "exporters[0].maxInFlight", ""),
    ],
)
def test_unknown_keys_with_the_nearest_known(refuse_one: Any, text: str, path: str, hint: str) -> None:
    error = refuse_one(text)
    assert (error.path, error.found, error.hint) == (path, "an unknown key", hint)


def test_a_misspelt_key_is_not_called_missing_as_well(refuse: Any) -> None:
    environ = {"TSS_DATADOG_AGENT_URL": "http://a:1"}
    assert paths(refuse("kafka: {broker: 'a:1'}", environ, least=False)) == ["kafka.broker"]
    assert paths(refuse("kafak: {brokers: 'a:1'}", environ, least=False)) == ["kafak"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: [", "line 1"),
        ("a: b: *hunter2", "line 1"),
        ("kafka: {saslPassword: *hunter2}", "undefined alias"),
        ("kafka: {saslPassword: !hunter2 x}", "constructor"),
        ("kafka: {saslPassword: !!int hunter2}", "tag"),
        ("kafka: {saslPassword: !!bool hunter2}", "tag"),
        ("kafka: {saslPassword: !!timestamp hunter2}", "tag"),
        ("kafka: {saslPassword: !!int ''}", "tag"),
        ("kafka: {saslPassword: \x07}", "characters"),
        ("? [a]\n: hunter2", "unhashable"),
        ("- hunter2", "a list"),
        ("hunter2", "text"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("[" * 600, "nesting"),
        (f"app: {{maxBufferSpans: {'9' * 5000}}}", "tag"),
    ],
)
def test_what_is_no_document_is_one_error_without_its_words(refuse_one: Any, file: Path, text: str, found: str) -> None:
    error = refuse_one(text, least=False)
    assert error.path == str(file)
    assert found in error.found
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\n\tb: hunter2", "at line 2, column 1: a tab that cannot start any token"),
        ("a: @hunter2", "at line 1, column 4: '@' that cannot start any token"),
        ("a: [hunter2, b", "at line 1, column 15: expected ',' or ']', but got the end of the text"),
        ("a:\n  b: 1\n c: 2", "at line 3, column 2: expected the end of the block, but found a key"),
        ("a: 'hunter2", "at line 1, column 12: unexpected end of stream"),
        ('a: "\\q"', "at line 1, column 6: unknown escape character ..."),
        ("a: &hunter2 b\nc: &hunter2 d", "at line 2, column 4: duplicate anchor ...; first occurrence"),
        ("a: 1\n---\nb: 2", "at line 2, column 1: expected a single document in the stream, but found another"),
    ],
)
def test_an_error_of_yaml_reads_as_a_sentence(refuse_one: Any, text: str, told: str) -> None:
    error = refuse_one(text, least=False)
    assert error.found.startswith(f"a YAML error {told}")
    assert "hunter2" not in str(error)


def test_without_a_file_the_errors_begin_with_that() -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {})
    head, *errors = str(caught.value).splitlines()
    assert head.startswith("no settings file was given (--config FILE or TSS_CONFIG); 2 errors")
    assert len(errors) == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    for name, found in (("missing", "No such file"), (".", "directory"), ("latin", "not UTF-8")):
        with pytest.raises(SettingsError) as caught:
            load(str(tmp_path / name), {})
        assert [found in error.found for error in caught.value.errors] == [True]


def test_keys_given_twice(refuse: Any) -> None:
    errors = refuse("kafka:\n  encoding: auto\n  encoding: auto\nexporters: [{name: a, name: b}]\nkafka: {}\n")
    assert paths(errors)[:3] == ["kafka.encoding", "exporters[0].name", "kafka"]
    assert errors[0].found == "the same key at lines 2 and 3"


def test_anchors_and_merges_are_fine_and_bombs_are_not_unfolded(accept: Any, refuse: Any) -> None:
    merged = accept(
        "app: &a {rootQuietSecs: 7}\nexporters:\n- &e {name: a, type: file, path: p}\n- {<<: *e, name: b, path: q}"
    )
    assert [exporter.name for exporter in merged.exporters] == ["a", "b"]
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert "app.instanceId" in paths(refuse(f"{bomb}app: {{instanceId: *a11}}"))
    assert refuse("app: &a {instanceId: *a}")[0].found == "a mapping"


@pytest.mark.parametrize("text", ["app: hunter2", "datadog: [hunter2]", "exporters: hunter2", "exporters: [hunter2]"])
def test_a_value_in_the_wrong_place_is_not_shown(refuse_one: Any, text: str) -> None:
    assert "hunter2" not in str(refuse_one(text))


# ---- the environment


def test_every_key_has_a_variable() -> None:
    keys = {f"{camel(section)}.{camel(field.name)}" for section, cls in SECTIONS.items() for field in fields(cls)}
    assert {known.key for known in VARIABLES.values()} == keys | {"exporters"}
    for name in (
        "TSS_DATADOG_API_KEY",
        "TSS_KAFKA_SASL_USERNAME",
        "TSS_OBSERVABILITY_LOG_LEVEL",
        "TSS_SPAN_COMPRESSION_ENABLED",
        "TSS_DEAD_LETTER_TOPIC",
    ):
        assert name in VARIABLES


def test_environment_beats_file(accept: Any) -> None:
    text = "observability: {logLevel: nonsense, healthPort: 1}\nkafka: {properties: {a: b}}\nexporters: 5\n"
    environ = {
        "TSS_OBSERVABILITY_LOG_LEVEL": "debug",
        "TSS_OBSERVABILITY_ENABLE_PROMETHEUS": "False",
        "TSS_SAMPLING_DEFAULT_SAMPLE_RATE": "1e-2",
        "TSS_KAFKA_PROPERTIES": "{c: d}",
        "TSS_KAFKA_SASL_USERNAME": "007",
        "TSS_KAFKA_SASL_PASSWORD": "true",
        "TSS_EXPORTERS": "[{name: a, type: file, path: p}]",
        "TSS_APP_INSTANCE_ID": "",
    }
    settings = accept(text, environ)
    assert (settings.observability.log_level, settings.observability.health_port) == ("debug", 1)
    assert not settings.observability.enable_prometheus
    assert settings.sampling.default_sample_rate == 0.01
    assert settings.kafka.properties == {"c": "d"}
    assert (settings.kafka.sasl_username, settings.kafka.sasl_password) == ("007", "true")
    assert settings.effective_exporters == (FileExporter(name="a", path="p"),)


@pytest.mark.parametrize(
    ("name", "value", "path", "found"),
    [
        ("TSS_APP_MAX_BUFFER_SPANS", "", "TSS_APP_MAX_BUFFER_SPANS", "an empty variable"),
        ("TSS_APP_MAX_BUFFER_SPANS", "many", "TSS_APP_MAX_BUFFER_SPANS", "'many'"),
        ("TSS_APP_MAX_BUFFER_SPANS", "'5'", "TSS_APP_MAX_BUFFER_SPANS", "'5'"),
        ("TSS_OBSERVABILITY_LOG_LEVEL", "", "TSS_OBSERVABILITY_LOG_LEVEL", "''"),
        ("TSS_OBSERVABILITY_HEALTH_PORT", "tcp://10.0.0.1:80", "TSS_OBSERVABILITY_HEALTH_PORT", "'tcp://10.0.0.1:80'"),
        ("TSS_KAFKA_PROPERTIES", "{a", "TSS_KAFKA_PROPERTIES", "line 1"),
        ("TSS_KAFKA_PROPERTIES", "{group.id: a}", "TSS_KAFKA_PROPERTIES.group.id", "own"),
        ("TSS_KAFKA_PROPERTIES", "{a: 1, a: 2}", "TSS_KAFKA_PROPERTIES.a", "the same key"),
        ("TSS_REDIS_URL", "redis://r:x", "TSS_REDIS_URL", "'redis://r:x'"),
        ("TSS_EXPORTERS", "[{name: a, type: flie}]", "TSS_EXPORTERS[0].type", "'flie'"),
        ("TSS_EXPORTERS", "[{name: a, name: b, type: file, path: p}]", "TSS_EXPORTERS[0].name", "the same key"),
        ("TSS_APP_ROOT_QUIET_SECS", "700", "TSS_APP_ROOT_QUIET_SECS", "700"),
    ],
)
def test_errors_in_variables_name_the_variable(refuse_one: Any, name: str, value: str, path: str, found: str) -> None:
    error = refuse_one("", {name: value})
    assert error.path == path
    assert found in error.found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TSS_KAFKA_BROKER", "TSS_KAFKA_BROKERS"),
        ("TSS_LOG_LEVEL", "TSS_OBSERVABILITY_LOG_LEVEL"),
        ("TSS_DATADOG_APIKEY", "TSS_DATADOG_API_KEY"),
        ("TSS_DATADOG_API_KEY_FIL", "TSS_DATADOG_API_KEY_FILE"),
        ("TSS_OBSERVABILITY_METRIC_PORT", "TSS_OBSERVABILITY_METRICS_PORT"),
        ("TSS_ZZZ", ""),
    ],
)
def test_unknown_variables_with_the_nearest_known(refuse_one: Any, name: str, meant: str) -> None:
    error = refuse_one("", {name: "hunter2"})
    assert (error.path, error.hint) == (name, f"did you mean {meant}?" if meant else "")
    assert "hunter2" not in str(error)


def test_what_kubernetes_and_others_set_is_left_alone(accept: Any) -> None:
    environ = {
        "TSS_SERVICE_HOST": "10.0.0.1",
        "TSS_SERVICE_PORT": "80",
        "TSS_SERVICE_PORT_HTTP": "80",
        "TSS_PORT": "tcp://10.0.0.1:80",
        "TSS_PORT_80_TCP": "tcp://10.0.0.1:80",
        "TSS_PORT_80_TCP_PROTO": "tcp",
        "TSS_PORT_80_TCP_PORT": "80",
        "TSS_PORT_80_TCP_ADDR": "10.0.0.1",
        "TSS_KAFKA_SERVICE_HOST": "10.0.0.1",
        "TSS_KAFKA_PORT": "udp://10.0.0.1:80",
        "TSS_KAFKA_PORT_53_UDP_ADDR": "10.0.0.1",
        "TSS_CONFIG": "/etc/tss.yaml",
        "PATH": "/bin",
    }
    assert accept("", environ) == accept("")


def test_secrets_from_files(accept: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    (tmp_path / "exporters").write_text("[{name: a, type: otlp, endpoint: http://b, bearerToken: t}]")
    environ = {
        "TSS_DATADOG_API_KEY_FILE": str(tmp_path / "key"),
        "TSS_EXPORTERS_FILE": str(tmp_path / "exporters"),
    }
    settings = accept("datadog: {apiKey: other}", environ)
    assert settings.datadog.api_key == "s3cret"
    assert settings.exporters == (OtlpExporter(name="a", endpoint="http://b", bearer_token="t"),)


def test_secret_files_that_cannot_be_read(refuse: Any, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    environ = {
        "TSS_DATADOG_API_KEY_FILE": str(tmp_path / "missing"),
        "TSS_REDIS_PASSWORD_FILE": str(tmp_path / "binary"),
        "TSS_DATADOG_APPLICATION_KEY_FILE": str(tmp_path),
        "TSS_KAFKA_SASL_PASSWORD": "a",
        "TSS_KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "missing"),
        "TSS_KAFKA_SASL_USERNAME_FILE": str(tmp_path / "missing"),  # no secret: no such variable
    }
    errors = refuse("", environ)
    assert paths(errors) == [
        "TSS_DATADOG_API_KEY_FILE",
        "TSS_DATADOG_APPLICATION_KEY_FILE",
        "TSS_KAFKA_SASL_PASSWORD_FILE",
        "TSS_REDIS_PASSWORD_FILE",
        "TSS_KAFKA_SASL_USERNAME_FILE",
    ]
    assert str(tmp_path / "missing") in errors[0].found
    assert errors[2].found == "TSS_KAFKA_SASL_PASSWORD set as well"


# ---- exporters


BATCH_BYTES = 1024 * 1024


def test_exporters_of_each_type(accept: Any) -> None:
    text = """
datadog: {agentUrl: "http://agent:8126", batchSize: 7, batchTimeoutSecs: 2}
exporters:
- {name: f, type: file, path: out.jsonl, fsync: false, rotateSecs: 3600, maxFiles: 48}
- {name: p, type: parquet, path: kept, maxAgeSecs: 604801}
- {name: o, type: otlp, endpoint: "https://o:4318/", headers: {X-Key: k}, compression: none}
- {name: d, type: datadog, batchTimeoutSecs: 3}
- {name: e, type: datadog, agentUrl: "http://other:8126", maxInFlight: 1}
"""
    environ = {"TSS_KAFKA_BROKERS": "a:1", "TSS_APP_MAX_BUFFER_BYTES": str(32 * BATCH_BYTES)}
    assert accept(text, environ, least=False).effective_exporters == (
        FileExporter(name="f", path="out.jsonl", fsync=False, rotate_secs=3600, max_files=48),
        ParquetExporter(name="p", path="kept", max_age_secs=604801, batch_bytes=BATCH_BYTES),
        OtlpExporter(name="o", endpoint="https://o:4318", headers={"X-Key": "k"}, compression="none"),
        DatadogExporter(
            name="d",
            via="agent",
            agent_url="http://agent:8126",
            site="datadoghq.com",
            batch_size=7,
            batch_timeout_secs=3,
        ),
        DatadogExporter(
            name="e",
            via="agent",
            agent_url="http://other:8126",
            site="datadoghq.com",
            batch_size=7,
            batch_timeout_secs=2,
            max_in_flight=1,
        ),
    )


@pytest.mark.parametrize(
    ("buffer", "asked", "given"),
    [(64 << 20, 0, 2 << 20), (2 << 30, 0, 64 << 20), (8 << 30, 0, 64 << 20), (64 << 20, 5, 5)],
)
def test_a_parquet_file_takes_no_memory_that_reading_needs(accept: Any, buffer: int, asked: int, given: int) -> None:
    text = f"exporters: [{{name: p, type: parquet, path: kept, batchBytes: {asked}}}]"
    environ = {"TSS_KAFKA_BROKERS": "a:1", "TSS_APP_MAX_BUFFER_BYTES": str(buffer)}
    (exporter,) = accept(text, environ, least=False).effective_exporters
    assert exporter.batch_bytes == given


def test_defaults_of_exporters() -> None:
    assert not (FileExporter().rotate_bytes or FileExporter().rotate_secs or FileExporter().max_files)
    assert not (ParquetExporter().max_files or ParquetExporter().max_age_secs), "nothing is deleted unasked"
    assert (FileExporter.max_in_flight, OtlpExporter().max_in_flight, DatadogExporter().max_in_flight) == (1, 4, 4)
    assert (FileExporter().batch_timeout_secs, OtlpExporter().batch_timeout_secs) == (0.2, 1)
    assert DatadogExporter.of(Datadog(batch_enabled=False)).batch_size == 1


@pytest.mark.parametrize("text", ["", "exporters: []", "exporters: null"])
def test_without_exporters_the_datadog_section_is_the_destination(accept: Any, refuse_one: Any, text: str) -> None:
    (exporter,) = accept(text, {"TSS_DATADOG_BATCH_SIZE": "9"}).effective_exporters
    assert exporter == DatadogExporter(
        name="datadog", via="agent", agent_url="http://agent:8126", site="datadoghq.com", batch_size=9
    )
    error = refuse_one(text, {"TSS_KAFKA_BROKERS": "a:1"}, least=False)
    assert error.path == "exporters"
    assert "set datadog.apiKey, or datadog.agentUrl" in error.hint


# ---- the ways to Datadog


@pytest.mark.parametrize(
    ("section", "exporter", "expected"),
    [
        # via, where to, and with which key
        ("{apiKey: k}", "", ("intake", "datadoghq.com", "", "", "k")),
        ("{apiKey: k, agentUrl: 'http://a'}", "", ("agent", "datadoghq.com", "http://a", "", "k")),
        ("{apiKey: k, agentUrl: 'http://a', via: intake}", "", ("intake", "datadoghq.com", "http://a", "", "k")),
        ("{apiKey: k, via: OTLP, site: us5.datadoghq.com}", "", ("otlp", "us5.datadoghq.com", "", "", "k")),
        ("{apiKey: k, apiEndpoint: 'https://api.datadoghq.eu/'}", "", ("intake", "datadoghq.eu", "", "", "k")),
        (
            "{apiKey: k, apiEndpoint: 'https://api.datadoghq.eu', site: datadoghq.eu}",
            "",
            ("intake", "datadoghq.eu", "", "", "k"),
        ),
        ("{apiKey: k, apiEndpoint: 'http://proxy:1', intakeUrl: 'http://p'}", "", ("intake", "", "", "http://p", "k")),
        ("{apiKey: k}", "{}", ("intake", "datadoghq.com", "", "", "k")),
        ("{apiKey: k}", "{agentUrl: 'http://b'}", ("agent", "datadoghq.com", "http://b", "", "k")),
        ("{agentUrl: 'http://a'}", "{apiKey: j}", ("intake", "datadoghq.com", "http://a", "", "j")),
        ("{agentUrl: 'http://a', apiKey: k}", "{site: datadoghq.eu}", ("intake", "datadoghq.eu", "http://a", "", "k")),
        ("{apiKey: k, intakeUrl: 'http://p'}", "{site: datadoghq.eu}", ("intake", "datadoghq.eu", "", "", "k")),
        ("{apiKey: k}", "{via: otlp, intakeUrl: 'http://p/'}", ("otlp", "datadoghq.com", "", "http://p", "k")),
        ("{apiKey: k}", "{agentUrl: '', apiKey: '', site: ''}", ("intake", "datadoghq.com", "", "", "k")),
    ],
)
def test_ways_to_datadog(accept: Any, section: str, exporter: str, expected: tuple[str, ...]) -> None:
    text = f"datadog: {section}\n"
    if exporter:
        text += f"exporters: [{{name: d, type: datadog, {exporter[1:]}]\n"
    settings = accept(text, {"TSS_KAFKA_BROKERS": "a:1"}, least=False)
    (found,) = settings.effective_exporters
    assert (found.via, found.site, found.agent_url, found.intake_url, found.api_key) == expected


@pytest.mark.parametrize(
    ("section", "path", "told"),
    [
        ("{via: intake}", "datadog.apiKey", "an API key, since via is intake"),
        ("{via: otlp}", "datadog.apiKey", "an API key, since via is otlp"),
        ("{via: agent, apiKey: k}", "datadog.agentUrl", "an agent's address, since via is agent"),
        ("{via: api, apiKey: k}", "datadog.via", "one of"),
        ("{apiKey: k, apiEndpoint: 'http://proxy:1'}", "datadog.site", "a site, since via is intake"),
        (
            "{apiKey: k, apiEndpoint: 'https://api.datadoghq.eu', site: us5.datadoghq.com}",
            "datadog.apiEndpoint",
            "with the site of datadog.site",
        ),
        ("{apiKey: k, site: 'https://datadoghq.eu'}", "datadog.site", "a name such as"),
        ("{apiKey: k, site: app.datadoghq.eu}", "datadog.site", "a name such as"),
        ("{agentUrl: 'http://a', traceApi: v0.5}", "datadog.traceApi", "v0.4, v0.7"),
        ("{apiKey: k, compression: br}", "datadog.compression", "gzip, zstd, none"),
    ],
)
def test_ways_to_datadog_that_lead_nowhere(refuse_one: Any, section: str, path: str, told: str) -> None:
    error = refuse_one(f"datadog: {section}", {"TSS_KAFKA_BROKERS": "a:1"}, least=False)
    assert error.path == path
    assert told in error.allowed


def test_keys_of_a_way_that_nobody_takes_are_named(accept: Any) -> None:
    brokers = {"TSS_KAFKA_BROKERS": "a:1"}
    text = "datadog: {apiKey: k, agentUrl: 'http://a', compression: zstd, traceApi: v0.7, site: datadoghq.eu}"
    assert without_effect(accept(text, brokers, least=False)) == ["datadog.apiKey", "datadog.compression"]
    text = text.replace("{apiKey", "{via: intake, apiKey")
    assert without_effect(accept(text, brokers, least=False)) == ["datadog.agentUrl", "datadog.traceApi"]


def test_an_api_key_beside_another_destination_is_accepted(accept: Any) -> None:
    environ = {"TSS_KAFKA_BROKERS": "a:1", "TSS_DATADOG_API_KEY": "k"}
    accept("exporters: [{name: a, type: file, path: p}]", environ, least=False)
    accept("datadog: {agentUrl: 'http://a'}", environ, least=False)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[{type: file, path: p}]", "exporters[0].name"),
        ("[{name: '', type: file, path: p}]", "exporters[0].name"),
        ("[{name: a, path: p}]", "exporters[0].type"),
        ("[{name: a, type: [file]}]", "exporters[0].type"),
        ("[{name: a, type: file}]", "exporters[0].path"),
        ("[{name: a, type: otlp}]", "exporters[0].endpoint"),
        ("[{name: a, type: otlp, endpoint: 'h:4317'}]", "exporters[0].endpoint"),
        ("[{name: a, type: otlp, endpoint: 'http://h/v1/traces'}]", "exporters[0].endpoint"),
        ("[{name: a, type: otlp, endpoint: 'http://h', compression: zstd}]", "exporters[0].compression"),
        ("[{name: a, type: otlp, endpoint: 'http://h', headers: {a: [hunter2]}}]", "exporters[0].headers.a"),
        ("[{name: a, type: otlp, endpoint: 'http://h', headers: {a: 'hunter2é'}}]", "exporters[0].headers.a"),
        ("[{name: a, type: otlp, endpoint: 'http://h', headers: {'a b': hunter2}}]", "exporters[0].headers.a b"),
        ("[{name: a, type: otlp, endpoint: 'http://h', headers: hunter2}]", "exporters[0].headers"),
        (
            "[{name: a, type: otlp, endpoint: 'http://h', headers: {AUTHORIZATION: x}, bearerToken: hunter2}]",
            "exporters[0].bearerToken",
        ),
        ("[{name: a, type: otlp, endpoint: 'https://h', sslCertificateLocation: c}]", "exporters[0].sslKeyLocation"),
        ("[{name: a, type: otlp, endpoint: 'https://h', sslKeyLocation: c}]", "exporters[0].sslCertificateLocation"),
        ("[{name: a, type: otlp, endpoint: 'https://h', sslKeyPassword: hunter2}]", "exporters[0].sslKeyPassword"),
        (
            "[{name: a, type: otlp, endpoint: 'https://h', sslVerify: false, sslCaLocation: c}]",
            "exporters[0].sslVerify",
        ),
        ("[{name: a, type: otlp, endpoint: 'http://h', sslCaLocation: c}]", "exporters[0].endpoint"),
        (
            "[{name: a, type: otlp, endpoint: 'http://h', sslCertificateLocation: c, sslKeyLocation: k}]",
            "exporters[0].endpoint",
        ),
        ("[{name: a, type: file, path: p, maxFiles: 3}]", "exporters[0].maxFiles"),
        ("[{name: a, type: file, path: p, maxAgeSecs: 3}]", "exporters[0].maxAgeSecs"),
        ("[{name: a, type: file, path: p, rotateBytes: -1}]", "exporters[0].rotateBytes"),
        ("[{name: a, type: parquet}]", "exporters[0].path"),
        ("[{name: a, type: parquet, path: p}, {name: b, type: parquet, path: p}]", "exporters[1].path"),
        ("[{name: a, type: datadog}]", "exporters[0].agentUrl"),
        ("[{name: a, type: datadog, via: agent}]", "exporters[0].agentUrl"),
        ("[{name: a, type: datadog, via: intake}]", "exporters[0].apiKey"),
        ("[{name: a, type: datadog, site: datadoghq.eu}]", "exporters[0].apiKey"),
        ("[{name: a, type: file, path: p}, {name: a, type: file, path: q}]", "exporters[1].name"),
        ("[{name: a, type: file, path: p}, {name: b, type: file, path: p}]", "exporters[1].path"),
        ("[{name: a, type: file, path: tss-dead-letter.jsonl}]", "exporters[0].path"),
        ("[5, {name: b, type: file, path: p}]", "exporters[0]"),
        ("[null]", "exporters[0]"),
        ("{name: a, type: file, path: p}", "exporters"),
    ],
)
def test_refused_exporters(refuse_one: Any, text: str, path: str) -> None:
    error = refuse_one(f"exporters: {text}", {"TSS_KAFKA_BROKERS": "a:1"}, least=False)
    assert error.path == path
    assert "hunter2" not in str(error)


TO_TOPIC = "{name: k, type: kafka, topic: kept}"


def test_an_exporter_to_a_topic(accept: Any) -> None:
    (exporter,) = accept(f"exporters: [{TO_TOPIC}]").effective_exporters
    assert exporter == KafkaExporter(name="k", topic="kept")
    assert (exporter.compression, exporter.batch_size, exporter.transaction_timeout_secs) == ("zstd", 500, 30)


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("exporters: [{name: k, type: kafka}]", "exporters[0].topic", ""),
        ("exporters: [{name: k, type: kafka, topic: 'no topic'}]", "exporters[0].topic", ""),
        ("exporters: [{name: k, type: kafka, topic: otel-traces-raw}]", "exporters[0].topic", ""),
        ("exporters: [{name: k, type: kafka, topic: t, transactionTimeoutSecs: 61}]",
         "exporters[0].transactionTimeoutSecs", ""),
        ("exporters: [{name: k, type: kafka, topic: t, brokers: 'b:1'}]", "exporters[0].brokers", ""),
        ("exporters: [{name: k, type: kafka, topic: t, properties: {bootstrap.servers: b}}]",
         "exporters[0].properties.bootstrap.servers", "use kafka.brokers"),
        ("exporters: [{name: k, type: kafka, topic: t, properties: {acks: '1'}}]", "exporters[0].properties.acks", ""),
        ("exporters: [{name: k, type: kafka, topic: t, properties: {message.timeout.ms: 5}}]",
         "exporters[0].properties.message.timeout.ms", "transactionTimeoutSecs"),
        (f"exporters: [{TO_TOPIC}, {{name: l, type: kafka, topic: other}}]", "exporters[1].type", ""),
        (f"kafka: {{enableAutoCommit: false}}\nexporters: [{TO_TOPIC}]", "kafka.enableAutoCommit", "rehearsal"),
        (f"kafka: {{properties: {{isolation.level: read_uncommitted}}}}\nexporters: [{TO_TOPIC}]",
         "kafka.properties", ""),
        (f"deadLetter: {{type: topic, topic: kept}}\nexporters: [{TO_TOPIC}]", "exporters[0].topic", ""),
    ],
)  # fmt: skip
def test_refused_exporters_to_a_topic(refuse_one: Any, text: str, path: str, hint: str) -> None:
    error = refuse_one(text)
    assert error.path == path
    assert hint in error.hint


# ---- what keys must agree on


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("app: {rootQuietSecs: 601}", "app.rootQuietSecs"),
        ("app: {inactivityTimeoutSecs: 20000}", "app.inactivityTimeoutSecs"),
        ("app: {maxTraceDurationSecs: 500}", "app.inactivityTimeoutSecs"),
        ("observability: {metricsPort: 8080}", "observability.healthPort"),
        ("observability: {metricsPort: 8080, metricsAddr: 127.0.0.1}", "observability.healthPort"),
        ("forceSampling: {adminPort: 8080, adminToken: 0123456789abcdef}", "forceSampling.adminPort"),
        ("forceSampling: {adminPort: 9090, adminToken: 0123456789abcdef}", "forceSampling.adminPort"),
        ("kafka: {saslUsername: u}", "kafka.saslPassword"),
        ("kafka: {saslPassword: p}", "kafka.saslUsername"),
        ("kafka: {sslCertificateLocation: c}", "kafka.sslKeyLocation"),
        ("kafka: {sslKeyLocation: k}", "kafka.sslCertificateLocation"),
        ("kafka: {saslUsername: u, saslPassword: p, securityProtocol: ssl}", "kafka.securityProtocol"),
        ("kafka: {securityProtocol: sasl_ssl}", "kafka.saslUsername"),
        ("kafka: {scalerGroup: g, consumerGroup: g}", "kafka.scalerGroup"),
        (
            "kafka: {groupProtocol: consumer, properties: {heartbeat.interval.ms: 5}}",
            "kafka.properties.heartbeat.interval.ms",
        ),
        ("kafka: {staticMembership: true}\napp: {instanceId: 'a b'}", "app.instanceId"),
        ("kafka: {staticMembership: true}\napp: {instanceId: tss-7d9f8b6c5d-x2vbn}", "app.instanceId"),
        ("kafka: {staticMembership: true}\napp: {instanceId: 0f3a9c1be77d}", "app.instanceId"),
        ("deadLetter: {type: topic}", "deadLetter.topic"),
        ("deadLetter: {type: topic, topic: otel-traces-raw}", "deadLetter.topic"),
    ],
)
def test_disagreements(refuse_one: Any, text: str, path: str) -> None:
    assert refuse_one(text).path == path


@pytest.mark.parametrize(
    "text",
    [
        "app: {rootQuietSecs: 5, inactivityTimeoutSecs: 5, maxTraceDurationSecs: 5}",
        "observability: {metricsPort: 0, healthPort: 0}",
        "observability: {metricsPort: 8080, enablePrometheus: false}",
        "observability: {metricsPort: 8080, enableHealthCheck: false}",
        "observability: {metricsPort: 8080, metricsAddr: 127.0.0.1, healthAddr: 127.0.0.2}",
        "deadLetter: {type: topic, topic: dead}",
        "kafka: {staticMembership: true}\napp: {instanceId: tail-sampling-selector-10}",
        "kafka: {groupProtocol: classic, scalerGroup: keda, properties: {heartbeat.interval.ms: 500}}",
        "app: {parkAfterSecs: 5}",
    ],
)
def test_agreements(accept: Any, text: str) -> None:
    accept(text)


def test_an_invalid_value_is_not_compared(refuse_one: Any) -> None:
    assert refuse_one("app: {rootQuietSecs: 700, inactivityTimeoutSecs: x}").path == "app.inactivityTimeoutSecs"


# ---- what is shown

SECRETS = """
kafka: {saslUsername: u, saslPassword: hunter2, sslKeyPassword: hunter2, properties: {ssl.key.pem: hunter2, a: b}}
redis: {url: "redis://u:hunter2@r", password: hunter2, sentinelPassword: hunter2, sslKeyPassword: hunter2}
datadog: {apiKey: hunter2, applicationKey: hunter2}
exporters:
- {name: o, type: otlp, endpoint: "http://o", headers: {X-Key: hunter2}, bearerToken: hunter2}
- {name: d, type: datadog, apiKey: hunter2}
"""


def test_secrets_are_never_shown(accept: Any) -> None:
    settings = accept(SECRETS)
    shown = render(settings)
    assert "hunter2" not in shown + repr(settings) + str(settings.exporters)
    document = yaml.safe_load(shown)
    assert document["kafka"]["saslPassword"] == "***"
    assert document["kafka"]["properties"] == {"ssl.key.pem": "***", "a": "b"}
    assert document["exporters"][0]["headers"] == {"X-Key": "***"}
    assert yaml.safe_load(render(accept("")))["kafka"]["saslPassword"] == ""


@pytest.mark.parametrize("written", ["hunter2", "h%40nter2", "a:b/c@d"])
def test_the_password_in_the_address_of_redis_is_never_shown(accept: Any, written: str) -> None:
    settings = accept(f"redis: {{url: 'rediss://user:{written}@host:1,other:2', cluster: true}}")
    assert yaml.safe_load(render(settings))["redis"]["url"] == "rediss://user:***@host:1,other:2"
    assert written not in repr(settings) and "rediss://user:***@host" in repr(settings)
    address = parse(settings.redis.url)
    assert {written, address.password} == set(secrets(settings))
    assert address.password not in repr(address)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis-master:6379", RedisUrl((("redis-master", 6379),))),
        ("redis://h", RedisUrl((("h", 0),))),
        ("rediss://:p%2Fw@h:1/", RedisUrl((("h", 1),), tls=True, password="p/w")),
        ("redis://u@[::1]:7,h:8/15", RedisUrl((("::1", 7), ("h", 8)), username="u", database=15)),
        ("redis://u:a@b:c@h:9", RedisUrl((("h", 9),), username="u", password="a@b:c")),
    ],
)
def test_addresses_of_redis(url: str, expected: RedisUrl) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("redis", "path", "found"),
    [
        ("url: 'redis://a:1,b:2'", "redis.url", "2 hosts"),
        ("url: 'redis://a:1/2', cluster: true", "redis.url", "database 2"),
        ("url: 'redis://a:1', cluster: true, sentinelMaster: m", "redis.sentinelMaster", "'m'"),
        ("url: 'redis://a:1', sslCaLocation: f", "redis.url", "redis://"),
        ("url: 'rediss://a:1', sslCaLocation: f, sslVerify: false", "redis.sslVerify", "false"),
        ("url: 'rediss://a:1', sslKeyLocation: f", "redis.sslCertificateLocation", "nothing"),
    ],
)
def test_what_the_keys_of_redis_must_agree_on(refuse_one: Any, redis: str, path: str, found: str) -> None:
    error = refuse_one(f"redis: {{{redis}}}")
    assert (error.path, error.found) == (path, found)


def test_every_attribute_of_every_class_is_told() -> None:
    for cls in (*SECTIONS.values(), *EXPORTERS.values()):
        assert cls.__doc__
        for field in fields(cls):
            assert about(field).doc.endswith(".")
            assert field.type is not None
            assert field.default is not attrs.NOTHING


def test_defaults_are_of_their_own_kind() -> None:
    for section, cls in SECTIONS.items():
        for field in fields(cls):
            default = getattr(cls(), field.name)
            raw = list(default) if isinstance(default, tuple) else default
            if not about(field).required:
                assert about(field).kind.read(raw) == default, (section, field.name)


def test_the_reference_is_fresh() -> None:
    page = Path(__file__).parent.parent / "docs/settings.md"
    assert page.read_text() == reference(), "run: python -m tss.settings > docs/settings.md"


# ---- there and back

_texts = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12).filter(str.isprintable)
_texts |= st.sampled_from(
    ["null", "true", "1e3", "010", "=", "<<", "~", "- a", "a: b", "#", "2024-01-01", " x ", "0x1"]
)
_filled = _texts.filter(str.strip)
_sql_patterns = st.fixed_dictionaries(
    {"pattern": _filled}, optional={"groupName": _texts, "isRegex": st.just(False)}
) | st.just({"pattern": r"FROM (\w+)", "isRegex": True})
_secs = st.floats(0.001, 10_000) | st.integers(1, 10_000)
_topics = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)


def _some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


def _exporter(place: int) -> st.SearchStrategy[dict[str, Any]]:
    name = st.just(f"e{place}")
    batches = {"batchSize": st.integers(1, 10_000), "batchTimeoutSecs": _secs}
    file = {"name": name, "type": st.just("file"), "path": st.just(f"{place}.jsonl")}
    otlp = {"name": name, "type": st.just("otlp"), "endpoint": st.just("http://h:1/x/")}
    datadog = {"name": name, "type": st.just("datadog")}
    return st.one_of(
        st.fixed_dictionaries(file, optional={"fsync": st.booleans(), **batches}),
        st.fixed_dictionaries(otlp, optional={"compression": st.sampled_from(["gzip", "none"]), **batches}),
        st.fixed_dictionaries(
            datadog, optional={"agentUrl": st.just("http://h:1"), "traceApi": st.just("v0.7"), **batches}
        ),
    )


def _label(key: str) -> str:
    return key.replace(".", "_").replace("-", "_")


_documents = _some(
    app=_some(
        instanceId=_texts, maxBufferBytes=st.integers(0, 2**70), replaySecs=_secs, gracefulShutdown=st.booleans()
    ),
    kafka=_some(
        consumerGroup=_filled,
        inputTopic=_topics,
        sslCaLocation=_texts,
        encoding=st.sampled_from(["auto", "OTLP_JSON"]),
        properties=st.dictionaries(
            _texts.map(lambda name: f"x.{name}"), _texts | st.integers() | st.booleans(), max_size=3
        ).map(lambda entries: {name: value for name, value in entries.items() if not _looks_secret(name)}),
    ),
    sampling=_some(errorSampleRate=st.floats(0, 1), latencySampleRate=st.floats(0, 1), latencyThresholdMs=_secs),
    datadog=_some(batchEnabled=st.booleans(), batchSize=st.integers(1, 10_000), batchTimeoutSecs=_secs),
    observability=_some(serviceName=_filled, metricsPort=st.integers(10_000, 65_535), jsonLogging=st.booleans()),
    spanCompression=_some(sqlPatterns=st.lists(st.one_of(_filled, _sql_patterns), max_size=3)),
    spanMetrics=_some(
        enabled=st.booleans(),
        dimensions=st.lists(_topics.filter(lambda key: key[0].isalpha()), max_size=3, unique_by=_label),
        bucketsMs=st.lists(st.floats(0.001, 1e6), min_size=1, unique_by=lambda bound: round(bound, 3)).map(sorted),
    ),
    exporters=st.integers(0, 3).flatmap(lambda count: st.tuples(*map(_exporter, range(count))).map(list)),
    deadLetter=_some(path=_filled.map(lambda name: f"dead-{name}"), type=st.sampled_from(["file", "log"])),
)


def _looks_secret(name: str) -> bool:
    return name.endswith((".pem", "token")) or "password" in name or "secret" in name


@hypothesis_settings(max_examples=25, deadline=None)
@given(_documents)
def test_what_is_rendered_reads_back_as_the_same(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    document.setdefault("kafka", {})["brokers"] = "kafka:9092"
    document.setdefault("datadog", {})["agentUrl"] = "http://agent:8126"
    # JSON is YAML, and quotes every text, so that only `render` is put to the test.
    file.write_text(json.dumps(document, ensure_ascii=False))
    once = load(str(file), {})
    file.write_text(render(once))
    again = load(str(file), {})
    assert again == once
    assert render(again) == render(once)


BASE = "kafka: {brokers: 'k:9092'}\nexporters: [{name: a, type: file, path: a}]\n"


def test_settings_that_change_nothing_are_named(accept: Any) -> None:
    assert without_effect(accept(BASE, least=False)) == []
    idle = """
redis: {poolSize: 5}
datadog: {applicationKey: x}
app: {parkAfterSecs: 5}
spanCompression: {minCompressionCount: 5}
spanMetrics: {unit: s}
deadLetter: {topic: t}
"""
    assert sorted(without_effect(accept(BASE + idle, least=False))) == [
        "app.parkAfterSecs",
        "datadog.applicationKey",
        "deadLetter.topic",
        "redis.poolSize",
        "spanCompression.minCompressionCount",
        "spanMetrics.unit",
    ]
    used = "spanCompression: {enabled: true, minCompressionCount: 5, sqlPatterns: [a]}\n"
    assert without_effect(accept(BASE + used, least=False)) == []


def test_brokers_that_assign_make_the_classic_keys_idle(accept: Any) -> None:
    text = (
        "kafka: {brokers: 'k:9092', groupProtocol: consumer, sessionTimeoutMs: 9000, partitionAssignmentStrategy: range, "
        "enableAutoCommit: false, scalerGroup: keda}\nexporters: [{name: a, type: file, path: a}]\n"
    )
    idle = without_effect(accept(text, least=False))
    assert idle == ["kafka.partitionAssignmentStrategy", "kafka.sessionTimeoutMs", "kafka.scalerGroup"]


def test_span_metrics_say_what_they_miss(accept: Any) -> None:
    enabled = "spanMetrics: {enabled: true, otlpIntervalSecs: 5, bucketsMs: [1, 2.5]}\n"
    settings = accept(BASE + enabled, least=False)
    assert without_effect(settings) == ["spanMetrics.otlpIntervalSecs"]
    assert settings.span_metrics.buckets_ms == (1, 2.5)


def test_dimensions_as_the_connector_has_them(accept: Any) -> None:
    text = "spanMetrics: {dimensions: [http.route, region=eu, {name: tenant, default: none=0}, {name: host.name}]}"
    assert accept(text).span_metrics.dimensions == ("http.route", "region=eu", "tenant=none=0", "host.name")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("dimensions: [a.b, a_b]", "spanMetrics.dimensions[1]"),  # one label to Prometheus
        ("dimensions: [service.name]", "spanMetrics.dimensions[0]"),
        ("dimensions: [le]", "spanMetrics.dimensions[0]"),
        ("dimensions: ['=x']", "spanMetrics.dimensions[0]"),
        ("dimensions: [{name: a, value: b}]", "spanMetrics.dimensions[0]"),
        ("dimensions: http.route", "spanMetrics.dimensions"),
        ("bucketsMs: []", "spanMetrics.bucketsMs"),
        ("bucketsMs: [1, 1]", "spanMetrics.bucketsMs[1]"),
        ("bucketsMs: [0]", "spanMetrics.bucketsMs[0]"),
        ("unit: min", "spanMetrics.unit"),
        ("otlpEndpoint: 'http://h/v1/metrics'", "spanMetrics.otlpEndpoint"),
    ],
)
def test_span_metrics_that_cannot_be(refuse_one: Any, text: str, path: str) -> None:
    assert refuse_one(f"spanMetrics: {{{text}}}").path == path


def test_a_ca_beside_plaintext_is_an_error(refuse: Any) -> None:
    """Operators who set a CA expect an encrypted connection."""
    text = BASE.replace("'k:9092'", "'k:9092', securityProtocol: plaintext, sslCaLocation: /ca.pem")
    (error,) = refuse(text)
    assert (error.path, "kafka.sslCaLocation is set" in error.allowed) == ("kafka.securityProtocol", True)


def test_an_exporter_takes_what_matches(accept: Any) -> None:
    settings = accept(
        "exporters: [{name: a, type: file, path: p, match: {policies: errors, attributes: {service.name: [x*, y], n: [5, 15000000.0, 0.12345678]}}}]"
    )
    (exporter,) = settings.exporters
    assert exporter.match == {
        "policies": ("errors",),
        "attributes": {"service.name": ("x*", "y"), "n": ("5", "15000000", "0.12345678")},
    }


@pytest.mark.parametrize(
    ("match", "path"),
    [
        ("errors", "exporters[0].match"),
        ("{policy: errors}", "exporters[0].match.policy"),
        ("{policies: []}", "exporters[0].match.policies"),
        ("{attributes: [a]}", "exporters[0].match.attributes"),
        ("{attributes: {a: ''}}", "exporters[0].match.attributes.a[0]"),
        ("{attributes: {a: {b: c}}}", "exporters[0].match.attributes.a[0]"),
    ],
)
def test_a_match_that_says_nothing_is_refused(refuse: Any, match: str, path: str) -> None:
    errors = refuse(f"exporters: [{{name: a, type: file, path: p, match: {match}}}]")
    assert path in paths(errors)


def test_a_policy_that_there_is_not_is_an_error(refuse: Any) -> None:
    text = "sampling: {sampleLatency: false}\nexporters: [{name: a, type: file, path: p, match: {policies: [eror, latency]}}]"
    errors = refuse(text)
    assert [(error.path, error.allowed) for error in errors] == [
        ("exporters[0].match.policies", "one of errors, default")
    ]
    assert "latency" in errors[0].found
    assert "errors" in errors[0].hint


@pytest.mark.parametrize("switches", [(True, True), (True, False), (False, True), (False, False)])
def test_policies_are_named_as_decisions_name_them(switches: tuple[bool, bool]) -> None:
    sampling = Sampling(always_sample_errors=switches[0], sample_latency=switches[1])
    assert [*sampling.in_force] == [policy.name for policy in policies(sampling)]
