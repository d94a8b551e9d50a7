"""The environment as a source of settings: its variables, and the value that each sets."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import frozen

from tss.settings.document import parse
from tss.settings.errors import InvalidValue, Notes, did_you_mean, nearest
from tss.settings.keys import about, camel, fields
from tss.settings.model import SECTIONS

# The path of the settings file; the command line reads it.
CONFIG_VARIABLE = "TSS_CONFIG"

# Kubernetes sets variables for each service of a namespace. For a service called "tss" or "tss-..." they look like settings.
_SERVICE_LINK = re.compile(
    r"TSS_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)"
)
# For these the name is not enough: with 9091 as value TSS_OBSERVABILITY_METRIC_PORT is a typo, with tcp://10.0.0.1:80 a service.
_SERVICE_PORT = re.compile(r"TSS_(\w+_)?PORT")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")


@frozen
class Variable:
    key: str
    literal: bool
    secret: bool


def _variables() -> Iterator[tuple[str, Variable]]:
    for section, cls in SECTIONS.items():
        for attribute in fields(cls):
            known = about(attribute)
            key = f"{camel(section)}.{camel(attribute.name)}"
            yield variable(section, attribute.name), Variable(key, known.kind.literal, known.secret)
    # Secret as a whole, since it may contain headers and tokens.
    yield "TSS_EXPORTERS", Variable("exporters", literal=False, secret=True)


def variable(section: str, name: str) -> str:
    return f"TSS_{section}_{name}".replace(".", "_").upper()


VARIABLES: Mapping[str, Variable] = dict(_variables())
_FILES: Mapping[str, str] = {f"{name}_FILE": name for name, known in VARIABLES.items() if known.secret}


def read_environment(environ: Mapping[str, str], notes: Notes) -> dict[str, object]:
    """For each key that the environment sets, its raw value. Adds the variables and all errors to `notes`."""
    raws: dict[str, object] = {}
    for name in sorted(environ):
        if name in VARIABLES:
            known = VARIABLES[name]
            notes.variables[known.key] = name
            raws[known.key] = _raw(known, environ[name], notes)
    for name in sorted(_FILES.keys() & environ.keys()):
        known = VARIABLES[_FILES[name]]
        both = known.key in raws
        notes.variables[known.key] = name
        if both:
            notes.add(known.key, f"{_FILES[name]} set as well", "one of the two variables")
        else:
            raws[known.key] = _raw_from_file(known, Path(environ[name]), notes)
    _refuse_unknown(environ, notes)
    return raws


def _raw(known: Variable, text: str, notes: Notes) -> object:
    if known.literal:
        return text
    if not text.strip():
        notes.add(known.key, "an empty variable", "a value", "set a value, or unset the variable")
        return None
    try:
        value, double_keys = parse(text)
    except InvalidValue as refused:
        error = refused.errors[0]
        notes.add(known.key, error.found, "its value as YAML text", error.hint)
        return None
    for error in double_keys:
        dot = "" if error.path.startswith("[") else "."
        notes.add(f"{known.key}{dot}{error.path}", error.found, error.allowed)
    return value


def _raw_from_file(known: Variable, file: Path, notes: Notes) -> object:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or an impossible path
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        notes.add(
            known.key, f"the file {str(file)!r}, which cannot be read: {reason}", "a file that the daemon may read"
        )
        return None
    return _raw(known, text.rstrip("\r\n"), notes)


def _refuse_unknown(environ: Mapping[str, str], notes: Notes) -> None:
    known = {*VARIABLES, *_FILES, CONFIG_VARIABLE}
    for name in sorted(environ):
        if not name.startswith("TSS_") or name in known or _is_service_link(name, environ[name]):
            continue
        # The section may be missing, as in TSS_LOG_LEVEL: then compare the end of the name.
        ends = [candidate for candidate in known if candidate.endswith(name.removeprefix("TSS"))]
        meant = ends[0] if len(ends) == 1 else nearest(name, sorted(known), cutoff=0.8)
        notes.add(name, "an unknown variable", "TSS_<SECTION>_<KEY> as in the settings reference", did_you_mean(meant))


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return bool(_SERVICE_PORT.fullmatch(name) and _SERVICE_ADDRESS.fullmatch(value))
