"""Obfuscation as in a Datadog agent: removes values from statements and commands, and card numbers.

Without an agent, spans go straight to Datadog, and nothing else removes these values. The tags by span type, and the
defaults, are the agent's (`pkg/trace/agent/obfuscate.go`, `pkg/config/setup/apm.go`). All of its obfuscation is on except
that of a URL's query, which is off by default. `tests/real/test_datadog_obfuscation.py` compares this with the agent's own
code and lists the differences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tss.core.compression.sql import has_quoted_texts, normalised
from tss.core.formats.datadog import naming
from tss.core.formats.datadog.trace import DatadogSpan

UNREADABLE = "Non-parsable SQL query"  # the agent's text for a statement of which nothing is left
_VALUE = "?"


AS_IS, SQL, SQL_DOUBLE_QUOTED, COMMANDS = range(4)


def making(span_type: str, system: str) -> int:
    """How the resource of such a span is obfuscated: AS_IS, SQL, SQL_DOUBLE_QUOTED or COMMANDS."""
    if span_type in _SQL_TYPES:
        return SQL_DOUBLE_QUOTED if has_quoted_texts(system) else SQL
    return COMMANDS if span_type in _COMMAND_TYPES else AS_IS


def resource(text: str, span_type: str, system: str) -> str:
    """A resource without values, for spans and for APM statistics. `system` is `db.system`, "" if unknown."""
    if span_type in _SQL_TYPES and text:
        return _statement(text, system)
    return _commands(text) if span_type in _COMMAND_TYPES else text


def obfuscate(span: DatadogSpan) -> DatadogSpan:
    """Remove the values from a span. The span is changed in place and returned."""
    meta, span_type = span["meta"], span["type"]
    _without_cards(meta)
    system = _system(meta) if span_type in _SQL_TYPES else ""
    span["resource"] = resource(span["resource"], span_type, system)
    for key, hide in _TAGS.get(span_type, ()):
        if value := meta.get(key):
            meta[key] = hide(value, system)
    return span


def _system(meta: Mapping[str, str]) -> str:
    return next((found for key in naming.KEYS["db"] if (found := meta.get(key))), "")


def _statement(text: str, system: str) -> str:
    return normalised(text, system) or UNREADABLE


# Redis -------------------------------------------------------------------------------------------------------------

_MOST_COMMANDS = 3
_CUT_OFF = "..."
_OF_TWO_WORDS = frozenset(("CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "SCRIPT"))


def _commands(text: str) -> str:
    """The names of the first commands, one per line of the text, without their arguments."""
    said: list[str] = []
    cut_off = False
    for line in text.split("\n"):
        if words := line.upper().split(maxsplit=2):
            command = words[: 2 if words[0] in _OF_TWO_WORDS else 1]
            cut_off = any(word.endswith(_CUT_OFF) for word in command)
            if not cut_off:
                said.append(" ".join(command))
        if len(said) == _MOST_COMMANDS:
            break
    more = cut_off or len(said) == _MOST_COMMANDS
    return " ".join([*said, _CUT_OFF] if more else said)


def _command(text: str, _system: str) -> str:
    """The command's name and `?` for its arguments. The agent keeps arguments that it knows to be keys; this does not."""
    words = text.split(maxsplit=1)
    return " ".join([words[0], _VALUE] if len(words) > 1 else words)


# Other databases, and URLs -------------------------------------------------------------------------------------------


def _nothing(_text: str, _system: str) -> str:
    return ""


def _json(text: str, _system: str) -> str:
    """JSON with `?` for each value; `?` alone if the text is not valid JSON."""
    try:
        return json.dumps(_without_values(json.loads(text)), separators=(",", ":"), ensure_ascii=False)
    except (ValueError, RecursionError):
        return _VALUE


def _without_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_values(each) for key, each in value.items()}
    return [_without_values(each) for each in value] if isinstance(value, list) else _VALUE


_USER = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*+:)?+//)[^/?#]*@")


def _url(text: str, _system: str) -> str:
    """A URL without user and password."""
    return _USER.sub(r"\1", text, count=1) if "@" in text else text


_Hide = Callable[[str, str], str]  # (the tag's value, `db.system`) -> the value without secrets

_SQL_TYPES = frozenset(("sql", "cassandra"))
_COMMAND_TYPES = frozenset(("redis", "valkey"))
_STATEMENTS = tuple((key, _statement) for key in ("sql.query", "db.statement", "db.query.text"))
_BODIES = (("elasticsearch.body", _json), ("opensearch.body", _json))
# The tags to obfuscate, by span type.
_TAGS: Mapping[str, tuple[tuple[str, _Hide], ...]] = {
    **dict.fromkeys(_SQL_TYPES, _STATEMENTS),
    "redis": (("redis.raw_command", _command),),
    "valkey": (("valkey.raw_command", _command),),
    "memcached": (("memcached.command", _nothing),),
    "mongodb": (("mongodb.query", _json),),
    **dict.fromkeys(("elasticsearch", "opensearch"), _BODIES),
    **dict.fromkeys(("web", "http"), (("http.url", _url),)),
}

# Cards ---------------------------------------------------------------------------------------------------------------

_FEWEST_DIGITS = 12
_CARD_STARTS = frozenset("0123456789 -")
# The numbers of digits, and the first digits, that issuers of cards use.
_CARD = re.compile(
    r"(?=[0-9]{12,16}\Z)(?:1|4|6|3(?:[4-9]|0[0-59])|5[0-8]|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720))"
)
_BETWEEN_DIGITS = str.maketrans("", "", " -")
# The agent's list of tags that may have long numbers, but no card numbers.
_NO_CARDS = frozenset((
    "account_id", "aws_account", "error", "error.msg", "error.type", "error.stack", "env", "graphql.field",
    "graphql.query", "graphql.type", "graphql.operation.name", "grpc.code", "grpc.method", "grpc.request",
    "http.status_code", "http.method", "runtime-id", "out.host", "out.port", "sampling.priority", "span.type",
    "span.name", "service.name", "service", "sql.query", "version", "databricks_job_id", "databricks_job_run_id",
    "databricks_task_run_id", "config.spark_app_startTime", "config.spark_databricks_job_parentRunId",
))  # fmt: skip


def _without_cards(meta: dict[str, str]) -> None:
    for key, value in meta.items():
        if (
            len(value) >= _FEWEST_DIGITS and value[0] in _CARD_STARTS
            and _CARD.match(value.translate(_BETWEEN_DIGITS)) and key not in _NO_CARDS and key[:1] != "_"
        ):  # fmt: skip
            meta[key] = _VALUE
