"""The kinds of value a key can have: how each is read from YAML, strictly, and what to tell who gave another.

Own readers rather than cattrs: its structuring is lenient where an operator needs it strict (int("5"), bool("false"),
True as 1), and every scalar would have needed a hook of its own to say found, allowed and hint.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

import attrs
import re2
from attrs import frozen

from tss.settings import redis_url as redis_urls
from tss.settings.faults import Fault, Refused, did_you_mean, nearest, shape, shown

T = TypeVar("T")

_TEXT: Mapping[str, object] = {"type": "string"}
_FILLED: Mapping[str, object] = {"type": "string", "minLength": 1}


def _list_of(entry: Mapping[str, object], most: int | None = None, least: int = 0) -> dict[str, object]:
    limits = {"minItems": least} | ({} if most is None else {"maxItems": most})
    return {"type": "array", "items": entry, **limits}


@frozen
class Kind(Generic[T]):
    allowed: str
    read: Callable[[object], T]
    # From the environment, the text itself is the value; otherwise the text is read as YAML.
    literal: bool = False
    # As JSON Schema: takes whatever `read` takes, and refuses what can be refused without reading.
    schema: Mapping[str, object] = _TEXT


def _refused(raw: object, allowed: str, hint: str = "", at: str = "") -> Refused:
    return Refused(Fault(at, shown(raw), allowed, hint))


# ---- truth and numbers


def _read_truth(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise _refused(raw, "true or false")
    return raw


truth = Kind("true or false", _read_truth, schema={"type": "boolean"})


def _within(low: float, high: float | None) -> str:
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def whole(low: int, high: int | None = None) -> Kind[int]:
    allowed = f"a whole number, {_within(low, high)}"

    def read(raw: object) -> int:
        # Helm's templates print 1000000 as 1e+06. Beyond 2**53 a float no longer knows which whole number it is.
        if isinstance(raw, float) and raw.is_integer() and abs(raw) <= 2**53:
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or raw < low or (high is not None and raw > high):
            raise _refused(raw, allowed, _unquote(raw))
        return min(raw, 2**53)  # what is meant is "no limit", and the core counts in 64 bits

    limits = {"minimum": low} | ({} if high is None else {"maximum": high})
    return Kind(allowed, read, schema={"type": "integer", **limits})


def number(low: float, high: float, above: bool = False) -> Kind[float]:
    """From `low` to `high`, fractions too; `above` leaves `low` itself out."""
    allowed = f"a number above {low:,} and up to {high:,}" if above else f"a number, {_within(low, high)}"

    def read(raw: object) -> float:
        # NaN fails every comparison, so the range must be asked for, not its contrary.
        fits = isinstance(raw, int | float) and not isinstance(raw, bool) and low <= raw <= high
        if not fits or (above and raw == low):
            raise _refused(raw, allowed, _unquote(raw))
        return float(raw)  # type: ignore[arg-type]  # it fits

    lowest = "exclusiveMinimum" if above else "minimum"
    return Kind(allowed, read, schema={"type": "number", lowest: low, "maximum": high})


def _unquote(raw: object) -> str:
    try:
        finite = isinstance(raw, str) and math.isfinite(float(raw))
    except ValueError:
        return ""
    return "this is text: write the number without quotes" if finite else ""


WEEK_SECS = 604_800
# No duration here makes sense beyond a topic's usual retention, and a slip such as ms for s is caught.
secs = number(0, WEEK_SECS)
positive_secs = number(0, WEEK_SECS, above=True)
rate = number(0, 1)
port = whole(0, 65535)


# ---- text


def _read_text(raw: object, allowed: str, at: str = "") -> str:
    if not isinstance(raw, str):
        scalar = isinstance(raw, bool | int | float)
        raise _refused(raw, allowed, "put it in quotes" if scalar else "", at)
    # A line break at the end of a secret is the usual slip of `echo ... | base64`, and breaks HTTP headers much later.
    if not raw.isprintable():
        raise _refused(raw, f"{allowed}, without line breaks or invisible characters", at=at)
    return raw


def text(allowed: str = "text", pattern: str = ".*") -> Kind[str]:
    """One line of text that matches `pattern` as a whole."""

    def read(raw: object) -> str:
        value = _read_text(raw, allowed)
        if not re.fullmatch(pattern, value):
            raise _refused(raw, allowed)
        return value

    return Kind(allowed, read, literal=True)


filled = attrs.evolve(text("text, not empty", r".*\S.*"), schema=_FILLED)
site = text(
    "a name such as datadoghq.eu, without https:// and api.", r"((?!api\.|app\.)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)?"
)
_TOPIC = r"[A-Za-z0-9._-]{1,249}"
topic = text("a topic's name: letters, digits, dot, dash, underscore", _TOPIC)
topic_or_empty = text("a topic's name, or empty", rf"({_TOPIC})?")


def choice(*names: str, aliases: Mapping[str, str] | None = None) -> Kind[str]:
    """One of a few words, in any case (INFO is info)."""
    allowed = "one of " + ", ".join(name or '""' for name in names)
    table = {name.lower(): name for name in names} | dict(aliases or {})

    def read(raw: object) -> str:
        value = _read_text(raw, allowed)
        if value.lower() not in table:
            raise _refused(raw, allowed, did_you_mean(nearest(value, names)))
        return table[value.lower()]

    # In any case is more than an enumeration can say: the usual ways to write them.
    words = (*names, *(aliases or {}))
    spelled = dict.fromkeys(spelling for word in words for spelling in (word, word.lower(), word.upper()))
    return Kind(allowed, read, literal=True, schema={"type": "string", "enum": [*spelled]})


def url(empty: bool = False, suffix_added: str = "") -> Kind[str]:
    """An http(s) base address, returned without a slash at its end."""
    allowed = "an address such as http://host:port" + (", or empty" if empty else "")

    def read(raw: object) -> str:
        value = _read_text(raw, allowed)
        if empty and not value:
            return value
        hint = _url_hint(value)
        if hint is None:
            raise _refused(raw, allowed)
        if suffix_added and value.rstrip("/").endswith(suffix_added):
            hint = f"leave {suffix_added} out: it is added"
        if hint:
            raise _refused(raw, allowed, hint)
        return value.rstrip("/")

    return Kind(allowed, read, literal=True)


def _url_hint(value: str) -> str | None:
    """What is wrong with a base address: None when it is none at all, "" when it is fine."""
    try:
        parts = urlsplit(value)
        sound = _is_http(parts)
    except ValueError:  # a port out of range, a broken IPv6 address
        return None
    if not sound or " " in value:
        return None
    if "@" in parts.netloc:
        return "no user or password here: they would be shown in logs"
    return "no ? or # here: this is a base address" if "?" in value or "#" in value else ""


def _is_http(parts: SplitResult) -> bool:
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0


def _read_redis_url(raw: object) -> str:
    value = _read_text(raw, redis_urls.ALLOWED)
    try:
        if value:
            redis_urls.parse(value)
    except ValueError as error:
        raise _refused(raw, redis_urls.ALLOWED, str(error)) from None
    return value


redis_url = Kind(redis_urls.ALLOWED, _read_redis_url, literal=True)
without_password = redis_urls.without_password

# ---- brokers

_BROKER = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
_BROKERS_ALLOWED = "host:port, several with commas between"


def _read_brokers(raw: object) -> str:
    """As librdkafka wants them: one text with commas. A YAML list reads better, so that is taken too."""
    entries: list[object] = raw if isinstance(raw, list) else [*_read_text(raw, _BROKERS_ALLOWED).split(",")]
    faults = []
    for place, entry in enumerate(entries):
        fits = _BROKER.fullmatch(entry.strip()) if isinstance(entry, str) else None
        if not fits or not 0 < int(fits[1]) < 65536:
            faults.append(Fault(f"[{place}]" if len(entries) > 1 else "", shown(entry), _BROKERS_ALLOWED))
    if faults or not entries:
        raise Refused(*faults or [Fault("", shown(raw), _BROKERS_ALLOWED)])
    return ",".join(str(entry).strip() for entry in entries)


brokers = Kind(_BROKERS_ALLOWED, _read_brokers, literal=True, schema={"anyOf": [_TEXT, _list_of(_FILLED, least=1)]})


# ---- lists and maps


def _collect(parts: Iterable[tuple[str, object, Callable[[object], T]]]) -> list[T]:
    """Read every part; when some are refused, refuse with all of their faults, each at its place."""
    values, faults = [], []
    for at, raw, read in parts:
        try:
            values.append(read(raw))
        except Refused as refused:
            faults += [Fault(at + f.path, f.found, f.allowed, f.hint) for f in refused.faults]
    if faults:
        raise Refused(*faults)
    return values


_OPERATIONS = "a list of texts: globs, or regular expressions after re:"


def _read_operation(raw: object) -> str:
    value = filled.read(raw)
    if value.startswith("re:"):
        _check_regex(value.removeprefix("re:"))
    return value


def _check_regex(pattern: str, at: str = "") -> None:
    """By RE2, as it is used (`tss.core.patterns`): no pattern of it takes long, whatever producers write."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise _refused(
            pattern, "a regular expression, as RE2 has them: no look-around, no backreferences", words, at
        ) from None


def _read_operations(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise _refused(raw, _OPERATIONS)
    return tuple(_collect((f"[{place}]", entry, _read_operation) for place, entry in enumerate(raw)))


operations = Kind(_OPERATIONS, _read_operations, schema=_list_of(_FILLED))


@frozen(kw_only=True)
class SqlPattern:
    """Selects SQL statements, and with a name makes those that it matches one group."""

    pattern: str
    is_regex: bool = False
    group_name: str = ""

    def plain(self) -> object:
        """As it is written in YAML."""
        if not (self.is_regex or self.group_name):
            return self.pattern
        return {"pattern": self.pattern, "isRegex": self.is_regex, "groupName": self.group_name}


_SQL_PATTERN = "a text, or a mapping of pattern, isRegex, groupName"
_SQL_PATTERN_KEYS: Mapping[str, Callable[[object], object]] = {
    "pattern": filled.read, "isRegex": truth.read, "groupName": text().read,
}  # fmt: skip


def _read_sql_pattern(raw: object) -> SqlPattern:
    if isinstance(raw, str):
        return SqlPattern(pattern=filled.read(raw))
    if not isinstance(raw, dict):
        raise _refused(raw, _SQL_PATTERN)
    given = {"pattern": None} | {name: value for name, value in raw.items() if value is not None}
    found = dict(_collect((f".{name}", value, partial(_read_sql_key, str(name))) for name, value in given.items()))
    pattern, is_regex, group_name = str(found["pattern"]), found.get("isRegex", False), found.get("groupName", "")
    if is_regex:
        _check_regex(pattern, ".pattern")
    return SqlPattern(pattern=pattern, is_regex=bool(is_regex), group_name=str(group_name))


def _read_sql_key(name: str, raw: object) -> tuple[str, object]:
    if name not in _SQL_PATTERN_KEYS:
        hint = did_you_mean(nearest(name, _SQL_PATTERN_KEYS))
        raise Refused(Fault("", "an unknown key", ", ".join(_SQL_PATTERN_KEYS), hint))
    return name, _SQL_PATTERN_KEYS[name](raw)


def _read_sql_patterns(raw: object) -> tuple[SqlPattern, ...]:
    if not isinstance(raw, list):
        raise _refused(raw, f"a list, each {_SQL_PATTERN}")
    return tuple(_collect((f"[{place}]", entry, _read_sql_pattern) for place, entry in enumerate(raw)))


_SQL_PATTERN_SCHEMA: Mapping[str, object] = {
    "anyOf": [
        _FILLED,
        {
            "type": "object",
            "properties": {"pattern": _FILLED, "isRegex": truth.schema, "groupName": _TEXT},
            "required": ["pattern"],
            "additionalProperties": False,
        },
    ]
}
sql_patterns = Kind(f"a list, each {_SQL_PATTERN}", _read_sql_patterns, schema=_list_of(_SQL_PATTERN_SCHEMA))


_DIMENSION = re.compile(r"[^\s=]+(=.*)?")
_DIMENSION_ALLOWED = "an attribute's key, or key=default"
MAX_DIMENSIONS = 16  # each multiplies the series


def _read_dimension(raw: object) -> str:
    """The connector's own form, {name: ..., default: ...}, is taken too."""
    if isinstance(raw, dict) and {"name"} <= raw.keys() <= {"name", "default"}:
        name, default = raw["name"], raw.get("default")
        raw = name if default is None or not isinstance(name, str) else f"{name}={default}"
    value = _read_text(raw, _DIMENSION_ALLOWED)
    if not _DIMENSION.fullmatch(value):
        raise _refused(raw, _DIMENSION_ALLOWED)
    return value


def _read_dimensions(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_DIMENSIONS:
        raise _refused(raw, dimensions.allowed)
    found = tuple(_collect((f"[{place}]", entry, _read_dimension) for place, entry in enumerate(raw)))
    taken: set[str] = set()
    for place, key in enumerate(found):
        label = re.sub(r"\W", "_", key.partition("=")[0], flags=re.ASCII)
        if label in taken or label in _OWN_LABELS or label.startswith("__"):
            raise _refused(key, "keys that are labels of their own", f"to Prometheus it is {label}", f"[{place}]")
        taken.add(label)
    return found


# Labels that every series has, or Prometheus gives itself.
_OWN_LABELS = frozenset(
    ("service_name", "span_name", "span_kind", "status_code", "le", "otel_metric_overflow", "collector_instance_id")
)
dimensions = Kind(
    f"a list of attribute keys, each with `=default` where wanted; at most {MAX_DIMENSIONS}",
    _read_dimensions,
    schema=_list_of({"type": ["string", "object"]}, MAX_DIMENSIONS),
)


MAX_BOUNDS = 100  # each is one more number in every series
_SMALLEST_BOUND_MS = 1e-6  # a nanosecond: spans tell no less


def _read_bounds(raw: object) -> tuple[float, ...]:
    if not isinstance(raw, list) or not 0 < len(raw) <= MAX_BOUNDS:
        raise _refused(raw, bounds.allowed)
    read = number(_SMALLEST_BOUND_MS, 1000 * WEEK_SECS).read
    found = tuple(_collect((f"[{place}]", entry, read) for place, entry in enumerate(raw)))
    for place, (one, other) in enumerate(pairwise(found)):
        if other - one < _SMALLEST_BOUND_MS:
            raise _refused(raw[place + 1], f"more than {one:g}, the one before", at=f"[{place + 1}]")
    return found


bounds = Kind(
    f"a list of rising numbers above 0, at most {MAX_BOUNDS}",
    _read_bounds,
    schema=_list_of({"type": "number", "exclusiveMinimum": 0}, MAX_BOUNDS, 1),
)


# What the daemon sets itself, or has a key of its own for: two places for one thing would leave open which one wins.
OWNED_PROPERTIES = {
    "enable.auto.commit": "offsets are committed as traces finish; see kafka.enableAutoCommit",
    "enable.auto.offset.store": "only the daemon knows which offsets are done with",
    "statistics.interval.ms": "the daemon takes its own metrics from these statistics",
    "enable.partition.eof": "the end of a partition tells the daemon that it has caught up",
    "auto.offset.reset": "use kafka.autoOffsetReset",
    "group.id": "use kafka.consumerGroup",
    "bootstrap.servers": "use kafka.brokers",
    "metadata.broker.list": "use kafka.brokers",
    "session.timeout.ms": "use kafka.sessionTimeoutMs",
    "partition.assignment.strategy": "use kafka.partitionAssignmentStrategy",
    "group.protocol": "use kafka.groupProtocol",
    "group.instance.id": "use kafka.staticMembership, which takes app.instanceId",
    "security.protocol": "use kafka.securityProtocol",
    "sasl.mechanism": "use kafka.saslMechanism",
    "sasl.mechanisms": "use kafka.saslMechanism",
    "sasl.username": "use kafka.saslUsername",
    "sasl.password": "use kafka.saslPassword",
    "ssl.ca.location": "use kafka.sslCaLocation",
    "ssl.certificate.location": "use kafka.sslCertificateLocation",
    "ssl.key.location": "use kafka.sslKeyLocation",
    "ssl.key.password": "use kafka.sslKeyPassword",
    "enable.ssl.certificate.verification": "use kafka.sslVerify",
}


def is_secret_property(name: str) -> bool:
    """Of librdkafka's properties: passwords, keys and certificates given as PEM text, OAuth secrets."""
    return bool(re.search(r"password|secret|\.pem$|oauthbearer\.config|token$", name))


def _read_property(name: str, raw: object) -> tuple[str, str]:
    if name in OWNED_PROPERTIES:
        raise Refused(Fault("", "a property of the daemon's own", "other librdkafka ones", OWNED_PROPERTIES[name]))
    if isinstance(raw, bool):
        return name, str(raw).lower()
    if isinstance(raw, int | float) and math.isfinite(raw):
        return name, str(raw)
    if not isinstance(raw, str):  # PEM texts have line breaks, so any text is fine
        raise Refused(Fault("", shape(raw), "text, a number, true or false"))
    return name, raw


def _read_header(name: str, raw: object) -> tuple[str, str]:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise Refused(Fault("", "a name that HTTP does not allow", "letters, digits and dashes"))
    if not isinstance(raw, str) or not raw.isprintable() or not raw.isascii():
        # The value of a header is a secret (an API key, a token): only its sort is told.
        raise Refused(Fault("", shape(raw), "text in ASCII, without line breaks"))
    return name, raw


def _map(
    allowed: str, read_item: Callable[[str, object], tuple[str, str]], entry: Mapping[str, object]
) -> Kind[Mapping[str, str]]:
    def read(raw: object) -> dict[str, str]:
        if not isinstance(raw, dict):
            raise Refused(Fault("", shape(raw), allowed))
        return dict(_collect((f".{name}", value, partial(read_item, str(name))) for name, value in raw.items()))

    return Kind(allowed, read, schema={"type": "object", "additionalProperties": entry})


properties = _map("a mapping of librdkafka properties", _read_property, {"type": ["string", "number", "boolean"]})
headers = _map("a mapping of header names to texts", _read_header, _TEXT)


# ---- routing

_MATCH_ALLOWED = "a mapping with policies, attributes or both"


def _read_pattern(raw: object) -> str:
    """A text that a value is compared with; YAML's truth values and numbers are meant as they are written."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, float):  # as an attribute's value is written: see core.routing
        return str(int(raw)) if raw.is_integer() else repr(raw)
    if isinstance(raw, int):
        return str(raw)
    return filled.read(raw)


def _read_patterns(raw: object) -> tuple[str, ...]:
    entries = raw if isinstance(raw, list) else [raw]
    if not entries:
        raise _refused(raw, "a text or a list of texts")
    return tuple(_collect((f"[{place}]", entry, _read_pattern) for place, entry in enumerate(entries)))


def _read_attributes(raw: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(raw, dict):
        raise Refused(Fault("", shape(raw), "a mapping of attributes to texts"))
    keys = [str(key) for key in raw]
    return dict(zip(keys, _collect((f".{key}", raw[key], _read_patterns) for key in raw), strict=True))


def _read_match(raw: object) -> Mapping[str, Any]:
    readers: dict[str, Callable[[object], object]] = {"policies": _read_patterns, "attributes": _read_attributes}
    if not isinstance(raw, dict):
        raise Refused(Fault("", shape(raw), _MATCH_ALLOWED))
    unknown = [str(key) for key in raw if key not in readers]
    if unknown:
        hint = did_you_mean(nearest(unknown[0], readers))
        raise Refused(Fault(f".{unknown[0]}", "an unknown key", ", ".join(readers), hint))
    return dict(zip(raw, _collect((f".{key}", raw[key], readers[key]) for key in raw), strict=True))


_SCALAR: Mapping[str, object] = {"type": ["string", "number", "boolean"]}
_PATTERNS_SCHEMA: Mapping[str, object] = {"anyOf": [_SCALAR, _list_of(_SCALAR, least=1)]}
match = Kind(
    _MATCH_ALLOWED,
    _read_match,
    schema={
        "type": "object",
        "properties": {
            "policies": _PATTERNS_SCHEMA,
            "attributes": {"type": "object", "additionalProperties": _PATTERNS_SCHEMA},
        },
        "additionalProperties": False,
    },
)
