"""The functions that a condition can call, and the ones that it cannot, each with the reason.

Source: pkg/ottl v1.4.1, `ottlfuncs/`. One line each: the documentation is made from this table.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import attrs

from tss.core.conditions import converters as c
from tss.core.conditions import values as v
from tss.core.conditions.errors import nearest


class Takes(enum.Enum):
    """What a parameter takes. A literal of another type is refused; a value of another type fails, unless it is converted."""

    ANY = "a value"
    TEXT = "a string"
    INT = "an int"
    TIME = "a time"
    DURATION = "a duration"
    MAP = "a map"
    LIST = "a list"
    TEXT_LIKE = "a value that can be a string"
    INT_LIKE = "a value that can be an int"
    FLOAT_LIKE = "a value that can be a float"
    BOOL_LIKE = "a value that can be a bool"
    BYTES_LIKE = "a value that can be bytes"
    IS_TEXT = "a value, or a string"
    IS_INT = "a value, or an int"
    IS_FLOAT = "a value, or a float"
    IS_BOOL = "a value, or a bool"
    IS_MAP = "a value, or a map"
    FIXED_TEXT = "a string in double quotes"
    FIXED_BOOL = "true or false"
    LIST_OF_ANY = "a list in brackets"
    LIST_OF_TEXTS = "a list of strings in brackets"
    LIST_OF_TEXT_LIKES = "a list in brackets, of values that can be strings"


CHECKS: Mapping[Takes, Callable[[Any], Any]] = {
    Takes.TEXT: v.text,
    Takes.INT: v.whole,
    Takes.TIME: v.time,
    Takes.DURATION: v.duration,
    Takes.MAP: v.mapping,
    Takes.LIST: v.sequence,
    Takes.TEXT_LIKE: v.text_like,
    Takes.INT_LIKE: v.int_like,
    Takes.FLOAT_LIKE: v.float_like,
    Takes.BOOL_LIKE: v.bool_like,
    Takes.BYTES_LIKE: v.bytes_like,
    # A literal of another type is refused, every other value is asked.
    Takes.IS_TEXT: v.text,
    Takes.IS_INT: v.whole,
    Takes.IS_FLOAT: v.real,
    Takes.IS_BOOL: v.truth,
    Takes.IS_MAP: v.mapping,
}
"""How an argument is read. Raises Failed."""

ASKED = {Takes.IS_TEXT, Takes.IS_INT, Takes.IS_FLOAT, Takes.IS_BOOL, Takes.IS_MAP}
LISTS = {Takes.LIST_OF_ANY: Takes.ANY, Takes.LIST_OF_TEXTS: Takes.TEXT, Takes.LIST_OF_TEXT_LIKES: Takes.TEXT_LIKE}
"""The lists that have to be written out, and what each item is."""


@final
@attrs.frozen
class Parameter:
    """`name` is Go's: `target` and `utf8_safe` are found as Target and Utf8Safe."""

    name: str
    takes: Takes
    is_optional: bool = False


@final
@attrs.frozen
class Function:
    """`does` says in one line what it computes. `make` takes the arguments that are literals (None for each other one),
    and returns what takes all of them; it raises ValueError or Failed for what is refused before anything is evaluated."""

    name: str
    parameters: tuple[Parameter, ...]
    does: str
    make: Callable[..., Callable[..., Any]]

    @property
    def usage(self) -> str:
        """How it is called."""
        names = [f"{snake(each.name)}{'?' if each.is_optional else ''}" for each in self.parameters]
        return f"{self.name}({', '.join(names)})"


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _as(run: Callable[..., Any]) -> Callable[..., Callable[..., Any]]:
    return lambda *_: run


def _of(
    name: str, does: str, run: Callable[..., Any], *parameters: tuple[str, Takes] | tuple[str, Takes, bool]
) -> Function:
    return Function(name, tuple(Parameter(*each) for each in parameters), does, _as(run))


def _one(name: str, does: str, run: Callable[..., Any], takes: Takes, parameter: str = "Target") -> Function:
    return _of(name, does, run, (parameter, takes))


def _regex(name: str, does: str, make: Callable[[str | None], Callable[..., Any]], takes: Takes) -> Function:
    parameters = (Parameter("Target", takes), Parameter("Pattern", Takes.TEXT))
    return Function(name, parameters, does, lambda _, pattern: make(pattern))


def _same(value: Any) -> Any:
    return value


def _first(values: Iterable[Any]) -> Any:
    """What comes after the first value is not evaluated."""
    return next((value for value in values if value is not None), None)


def _make_coalesce(values: list[Any] | None) -> Callable[..., Any]:
    if values is not None and not values:
        raise ValueError("the list cannot be empty")
    return _first


def _make_case(_: Any, case: str | None) -> Callable[..., Any]:
    if case not in {"lower", "upper"}:
        raise ValueError('the case has to be "lower" or "upper"; "snake" and "camel" are not supported')
    change = c.lower if case == "lower" else c.upper
    return lambda value, _: change(value)


def _make_key_value(_: Any, delimiter: str | None, pairs: str | None) -> Callable[..., Any]:
    return c.key_values(delimiter, pairs)


def _make_cidr(_: Any, networks: Any) -> Callable[..., Any]:
    if networks is not None:
        known = [c.network(network) for network in networks]
        return lambda value, _: c.is_in_cidr(value, known)
    return lambda value, each: (
        c.is_address(value) and any(c.is_in_cidr(value, [c.network(network)]) for network in each)
    )


def _make_id(read: Callable[[bytes], Any]) -> Callable[..., Callable[..., Any]]:
    def make(value: bytes | None) -> Callable[..., Any]:
        if value is not None:
            read(value)
        return read

    return make


_T, _D = Takes.TEXT, Takes.DURATION
_TIME = ("Time", Takes.TIME)

TABLE: tuple[Function, ...] = (
    _one("Bool", 'a value as a bool: `true`, 1, "t"', _same, Takes.BOOL_LIKE),
    Function("Coalesce", (Parameter("Values", Takes.LIST_OF_ANY),), "the first value of a list that is not nil", _make_coalesce),
    _of("Concat", "values as strings, joined", c.concat, ("Vals", Takes.LIST_OF_TEXT_LIKES), ("Delimiter", _T)),
    _of("ContainsValue", "whether a list has an item", c.contains_value, ("Target", Takes.LIST), ("Item", Takes.ANY)),
    Function("ConvertCase", (Parameter("Target", _T), Parameter("ToCase", Takes.FIXED_TEXT)),
             'a string in "lower" or "upper" case', _make_case),
    _of("Day", "the day of the month of a time, in UTC", c.day, _TIME),
    _one("Double", "a value as a float", _same, Takes.FLOAT_LIKE),
    _one("Duration", 'a duration: Duration("1h30m")', c.parse_duration, _T, "Duration"),
    _regex("ExtractPatterns", "a map with the named groups of a regular expression", c.extractor, _T),
    _one("FNV", "the FNV-1a hash of 64 bits of a string, as an int", c.fnv, _T),
    _of("HasPrefix", "whether a string begins with another one", c.has_prefix, ("Target", _T), ("Prefix", _T)),
    _of("HasSuffix", "whether a string ends with another one", c.has_suffix, ("Target", _T), ("Suffix", _T)),
    _one("Hex", "the bytes of a value in hexadecimal digits", bytes.hex, Takes.BYTES_LIKE),
    _of("Hour", "the hour of a time, in UTC", c.hour, _TIME),
    _one("Hours", "a duration in hours, as a float", c.hours, _D, "Duration"),
    _of("Index", "the place of a string in a string (in bytes) or of an item in a list; -1 if it is not there",
        c.index, ("Target", Takes.ANY), ("Value", Takes.ANY)),
    _one("Int", "a value as an int", _same, Takes.INT_LIKE),
    _one("IsBool", "whether a value is a bool", c.is_truth, Takes.IS_BOOL),
    _one("IsDouble", "whether a value is a float", c.is_real, Takes.IS_FLOAT),
    _one("IsEmpty", 'whether a value is nil, "", 0, false, or has no items', c.is_empty, Takes.ANY),
    Function("IsInCIDR", (Parameter("Target", _T), Parameter("Networks", Takes.LIST_OF_TEXTS)),
             "whether an IP address is in one of these networks", _make_cidr),
    _one("IsInt", "whether a value is an int", c.is_whole, Takes.IS_INT),
    _one("IsList", "whether a value is a list", c.is_any_list, Takes.ANY),
    _one("IsMap", "whether a value is a map", c.is_map, Takes.IS_MAP),
    _regex("IsMatch", "whether a value, as a string, has a match of a regular expression (RE2)", c.matcher, Takes.TEXT_LIKE),
    _of("IsRootSpan", "whether a span has no parent", c.is_no_id),
    _one("IsString", "whether a value is a string", c.is_text, Takes.IS_TEXT),
    _one("IsValidLuhn", "whether the last digit is a right check digit", c.luhn, Takes.TEXT_LIKE),
    _one("Keys", "the keys of a map, as a list", list, Takes.MAP),
    _one("Len", "the length of a string in bytes, or the number of items of a list or a map", c.length, Takes.ANY),
    _one("MD5", "the MD5 hash of a string, in hexadecimal digits", c.digest("md5"), _T),
    _one("Microseconds", "a duration in whole microseconds", c.full_units(1_000), _D, "Duration"),
    _one("Milliseconds", "a duration in whole milliseconds", c.full_units(1_000_000), _D, "Duration"),
    _of("Minute", "the minute of a time", c.minute, _TIME),
    _one("Minutes", "a duration in minutes, as a float", c.minutes, _D, "Duration"),
    _of("Month", "the month of a time (1 to 12), in UTC", c.month, _TIME),
    _of("Nanosecond", "the nanosecond of a time", c.nanosecond, _TIME),
    _one("Nanoseconds", "a duration in nanoseconds", c.full_units(1), _D, "Duration"),
    _of("ParseInt", "a string as an int of a base; base 0 goes by the prefix", c.parse_int, ("Target", _T), ("Base", Takes.INT)),
    _one("ParseJSON", "a JSON object or array; its numbers become floats", c.parse_json, _T),
    Function("ParseKeyValue", (Parameter("Target", _T), Parameter("Delimiter", Takes.FIXED_TEXT, is_optional=True),
                               Parameter("PairDelimiter", Takes.FIXED_TEXT, is_optional=True)),
             "a map of `key=value` pairs", _make_key_value),
    _of("Second", "the second of a time", c.second, _TIME),
    _one("Seconds", "a duration in seconds, as a float", c.seconds, _D, "Duration"),
    _one("SHA1", "the SHA-1 hash of a string, in hexadecimal digits", c.digest("sha1"), _T),
    _one("SHA256", "the SHA-256 hash of a string, in hexadecimal digits", c.digest("sha256"), _T),
    _one("SHA512", "the SHA-512 hash of a string, in hexadecimal digits", c.digest("sha512"), _T),
    Function("SpanID", (Parameter("Target", Takes.BYTES_LIKE),), "a span id of 8 bytes or 16 hexadecimal digits",
             _make_id(c.span_id)),
    _of("Split", "the pieces of a string between delimiters", c.split, ("Target", _T), ("Delimiter", _T)),
    _one("String", "a value as a string; lists and maps as JSON", _same, Takes.TEXT_LIKE),
    _of("Substring", "a piece of a string, in bytes", c.substring, ("Target", _T), ("Start", Takes.INT), ("Length", Takes.INT),
        ("Utf8Safe", Takes.FIXED_BOOL, True)),
    _one("ToLowerCase", "a string in lower case", c.lower, _T),
    _one("ToUpperCase", "a string in upper case", c.upper, _T),
    Function("TraceID", (Parameter("Target", Takes.BYTES_LIKE),), "a trace id of 16 bytes or 32 hexadecimal digits",
             _make_id(c.trace_id)),
    _of("Trim", "a string without blanks, or these characters, at both ends", c.trim, ("Target", _T),
        ("Replacement", Takes.FIXED_TEXT, True)),
    _of("TrimPrefix", "a string without this beginning", c.trim_prefix, ("Target", _T), ("Prefix", _T)),
    _of("TrimSuffix", "a string without this end", c.trim_suffix, ("Target", _T), ("Suffix", _T)),
    _of("TruncateTime", "a time rounded down to a multiple of a duration", c.truncate_time, _TIME, ("Duration", _D)),
    _of("Unix", "the time these seconds after 1970", c.unix, ("Seconds", Takes.INT), ("Nanoseconds", Takes.INT, True)),
    _of("UnixMicro", "a time in microseconds since 1970", c.since_1970(1_000_000), _TIME),
    _of("UnixMilli", "a time in milliseconds since 1970", c.since_1970(1_000), _TIME),
    _of("UnixNano", "a time in nanoseconds since 1970", c.since_1970(v.SECOND), _TIME),
    _of("UnixSeconds", "a time in seconds since 1970", c.since_1970(1), _TIME),
    _one("Values", "the values of a map, as a list", lambda value: list(value.values()), Takes.MAP),
    _of("Weekday", "the day of the week of a time, in UTC; 0 is Sunday", c.weekday, _TIME),
    _of("Year", "the year of a time, in UTC", c.year, _TIME),
)  # fmt: skip

FUNCTIONS: Mapping[str, Function] = {function.name: function for function in TABLE}

_NO_NEED = "no sampling condition needs it"
_CLOCK = "it depends on the clock or on chance, but the same records have to give the same decisions"
_LAMBDA = "it takes a lambda, which pkg/ottl has behind a feature gate"
LEFT_OUT: Mapping[str, str] = {
    "Now": _CLOCK,
    "UUID": _CLOCK,
    "UUIDv7": _CLOCK,
    **dict.fromkeys(("All", "Any", "Filter", "Find", "MapEach", "MapKeys", "Reduce", "When"), _LAMBDA),
    **dict.fromkeys(
        (
            "Base64Encode", "CommunityID", "ConvertAttributesToElementsXML", "ConvertTextToElementsXML", "Decode",
            "ExtractGrokPatterns", "Format", "FormatTime", "GetXML", "InsertXML", "Log", "Murmur3Hash", "Murmur3Hash128",
            "ParseCSV", "ParseSeverity", "ParseSimplifiedXML", "ParseXML", "ProfileID", "RemoveXML", "SliceToMap", "Sort",
            "Time", "ToCamelCase", "ToKeyValueString", "ToSnakeCase", "URL", "UserAgent", "XXH128", "XXH3",
        ),
        _NO_NEED,
    ),
}  # fmt: skip
"""Functions of pkg/ottl that are refused, with the reason."""


def suggestion(name: str) -> str:
    """`; did you mean ...?` for a name that is no function."""
    return nearest(name, FUNCTIONS)
