"""Loads the settings: the YAML file, then the environment. Each error is noted with its place."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from tss.settings.checks import conflicts
from tss.settings.derived import derive
from tss.settings.document import lines, parse
from tss.settings.environment import VARIABLES, read_environment
from tss.settings.errors import (
    MASK,
    InvalidSetting,
    InvalidValue,
    Notes,
    SettingsError,
    did_you_mean,
    nearest,
    shape,
    shown,
)
from tss.settings.keys import about, camel, fields
from tss.settings.model import SECTIONS, Settings
from tss.settings.sections.exporters import EXPORTERS, DatadogExporter, Exporter, FileExporter

T = TypeVar("T")
_ONLY_TO_CONNECT = ("kafka.brokers", "datadog.via")  # required keys; the second stands for a destination


def load(
    path: str | None,
    environ: Mapping[str, str],
    *,
    root: Path = Path("/"),
    offline: bool = False,
    places: dict[str, int] | None = None,
) -> Settings:
    """The settings of the YAML file at `path` (None: no file), overridden by the variables in `environ`.

    Derived values (instanceId, maxBufferBytes, securityProtocol) are filled in. /proc and /sys are read below `root`.
    `offline`: nothing will be connected to, so the brokers and a destination may be missing.
    `places` gets the line of each key and list entry of the file, by path.
    Raises SettingsError with all errors that could be found.
    """
    notes = Notes()
    if offline:
        notes.invalid.update(_ONLY_TO_CONNECT)
    overrides = read_environment(environ, notes)
    document = _document(path, notes) if path is not None else {}
    settings = _settings(document, overrides, notes)
    for conflict in conflicts(settings):
        if notes.valid(*conflict.keys):
            notes.add(conflict.keys[0], conflict.found, conflict.allowed, conflict.hint)
    if notes.errors:
        raise SettingsError(_with_lines(notes), path)
    if places is not None:
        places.update(lines(notes.text))
    return derive(settings, root)


# ---- the file


def _document(path: str, notes: Notes) -> dict[object, object]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        value, double_keys = parse(text)
    except OSError as error:
        return _no_document(path, f"no readable file: {error.strerror}", notes)
    except ValueError:
        return _no_document(path, "a file that is not UTF-8 text", notes)
    except InvalidValue as refused:
        return _no_document(path, refused.errors[0].found, notes, refused.errors[0].hint)
    notes.text = text
    for double in double_keys:
        notes.add(double.path, double.found, double.allowed)
    if value is None:  # an empty file: all defaults
        return {}
    if not isinstance(value, dict):
        return _no_document(path, shape(value), notes)
    return _unwrapped(value, notes)


def _with_lines(notes: Notes) -> tuple[InvalidSetting, ...]:
    """The errors, each with the line of its key. If the key is missing, with the line of what is around it."""
    known = lines(notes.text)
    return tuple(attrs.evolve(error, line=_line(error.path, known)) for error in notes.errors)


def _line(path: str, known: Mapping[str, int]) -> int:
    while path and path not in known:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return known.get(path, 0)


def _no_document(path: str, found: str, notes: Notes, hint: str = "") -> dict[object, object]:
    notes.add(path, found, "a YAML file with a mapping of sections", hint)
    notes.invalid.add("")  # so that no key is reported as missing: it may be in the unreadable file
    return {}


def _unwrapped(document: dict[object, object], notes: Notes) -> dict[object, object]:
    """Reports a Helm values file once, instead of all its unknown keys; the rest of the check reads its config section."""
    if "config" not in document:
        return document
    notes.add(
        "config",
        "a config section at the top",
        "the sections themselves: " + ", ".join(camel(name) for name in SECTIONS if "." not in name),
        "this looks like a Helm values file, which does not work here: copy its config section into tss.yaml",
    )
    inside = document["config"]
    return inside if isinstance(inside, dict) else {}


# ---- sections and keys


def _settings(document: dict[object, object], overrides: Mapping[str, object], notes: Notes) -> Settings:
    names = [*(camel(name) for name in SECTIONS if "." not in name), "exporters"]
    _refuse_unknown(document, names, "", notes)
    sections: dict[str, Any] = {}
    for name, cls in SECTIONS.items():
        if "." not in name:
            mapping = _mapping(document.get(camel(name)), camel(name), notes)
            sections[name] = _section(cls, mapping, name, overrides, notes)
    settings = Settings(**sections)
    raw = overrides["exporters"] if "exporters" in overrides else document.get("exporters")
    return attrs.evolve(settings, exporters=_exporters(raw, settings, notes))


def _section(cls: Any, mapping: dict[object, object], name: str, overrides: Mapping[str, object], notes: Notes) -> Any:
    """One section, with its inner sections."""
    inner = {path.rpartition(".")[2]: each for path, each in SECTIONS.items() if path.rpartition(".")[0] == name}
    sections = {}
    for attribute, each in inner.items():
        path = f"{name}.{attribute}"
        found = _mapping(mapping.get(camel(attribute)), camel(path), notes)
        sections[attribute] = _section(each, found, path, overrides, notes)
    own = _values(cls, mapping, camel(name), overrides, notes, also=[camel(each) for each in inner])
    return cls(**own, **sections)


def section_of(cls: type[T], mapping: dict[object, object], name: str, notes: Notes) -> T:
    """One section without inner ones, from a mapping of its keys. Errors are added to the notes."""
    return cls(**_values(cls, mapping, name, {}, notes))


def _mapping(raw: object, key: str, notes: Notes) -> dict[object, object]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        notes.add(key, shape(raw), "a mapping of keys")
        return {}
    return raw


def _values(
    cls: Any,
    mapping: dict[object, object],
    at: str,
    overrides: Mapping[str, object],
    notes: Notes,
    also: Sequence[str] = (),
) -> dict[str, object]:
    """The given values for the attributes of one class. Keys that are absent, null or invalid keep their defaults."""
    attributes = {camel(attribute.name): attribute for attribute in fields(cls)}
    _refuse_unknown(mapping, [*attributes, *also], at, notes)
    values = {}
    for name, attribute in attributes.items():
        key = f"{at}.{name}"
        raw = overrides[key] if key in overrides else mapping.get(name)
        value = _value(attribute, raw, key, notes)
        if value is not None:
            values[attribute.name] = value
    return values


def _value(attribute: "attrs.Attribute[Any]", raw: object, key: str, notes: Notes) -> object:
    known = about(attribute)
    if raw is None:
        if known.required and notes.valid(key):
            hint = next((f"or set {name}" for name, known_as in VARIABLES.items() if known_as.key == key), "")
            notes.add(key, "nothing", known.kind.allowed, hint)
        return None
    try:
        return known.kind.read(raw)
    except InvalidValue as refused:
        for error in refused.errors:
            # For a mapping of secrets the kind has already removed the values.
            found = MASK if known.secret and not error.path else error.found
            notes.add(key + error.path, found, error.allowed, error.hint or _service_link_hint(key, raw, notes))
        return None


def _service_link_hint(key: str, raw: object, notes: Notes) -> str:
    if key in notes.variables and isinstance(raw, str) and raw.startswith("tcp://"):
        return "Kubernetes sets this variable for a service; set enableServiceLinks: false in the pod"
    return ""


def _refuse_unknown(mapping: Mapping[object, object], known: Iterable[str], at: str, notes: Notes) -> None:
    here = {name: f"{at}.{name}" if at else name for name in known}
    for name in mapping:
        if name not in here:
            key = f"{at}.{name}" if at else str(name)
            meant = _meant(str(name), here)
            notes.add(key, "an unknown key", ", ".join(here), did_you_mean(meant))
            if meant:  # then that key is misspelt, and not missing as well
                notes.invalid.add(meant)


def _meant(name: str, here: Mapping[str, str]) -> str:
    """The path that is probably meant: a similar name in this section, or nearly the same name in another."""
    close = nearest(name, here)
    if close:
        return here[close]
    elsewhere = {known.key.rpartition(".")[2]: known.key for known in VARIABLES.values()}
    return elsewhere.get(nearest(name, elsewhere, cutoff=0.9), "")


# ---- exporters


def _exporters(raw: object, settings: Settings, notes: Notes) -> tuple[Exporter, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list):
        notes.add("exporters", shape(raw), "a list of exporters, each with name and type")
        return ()
    return tuple(_exporter(entry, f"exporters[{place}]", settings, notes) for place, entry in enumerate(raw))


def _exporter(raw: object, at: str, settings: Settings, notes: Notes) -> Exporter:
    placeholder = FileExporter()  # keeps the positions of the others; an error is noted, so it is never used
    if not isinstance(raw, dict):
        notes.add(at, shape(raw), "a mapping with name and type")
        return placeholder
    tag = raw.get("type")
    cls = EXPORTERS.get(tag) if isinstance(tag, str) else None
    if cls is None:
        hint = did_you_mean(nearest(tag, EXPORTERS)) if isinstance(tag, str) else ""
        notes.add(f"{at}.type", shown(tag), "one of " + ", ".join(EXPORTERS), hint)
        return placeholder
    values: dict[str, Any] = _values(cls, raw, at, {}, notes, also=["type"])
    if cls is DatadogExporter:
        return DatadogExporter.of(settings.datadog, **values)
    return cls(**values)
