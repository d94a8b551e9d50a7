"""The settings as JSON Schema, for Helm's values and for editors. It accepts all that the daemon accepts."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from tss.settings.keys import About, about, about_section, camel, fields
from tss.settings.model import SECTIONS, Settings
from tss.settings.sections.exporters import EXPORTERS

Schema = dict[str, Any]


def document_schema() -> Schema:
    """JSON Schema of tss.yaml, to be published for editors."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": "Made by `python -m tss.settings --schema`: do not edit.",
        "title": "Settings of the Tail Sampling Selector (tss.yaml)",
        **settings_schema(),
    }


def settings_schema() -> Schema:
    """JSON Schema (draft 7) of the settings file: the sections and `exporters`."""
    top = {camel(name): section_schema(name) for name in SECTIONS if "." not in name}
    # A branch for each type, so that an error only mentions the keys of that type.
    each = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": [*EXPORTERS]}},
        "allOf": [
            {"if": {"required": ["type"], "properties": {"type": {"const": name}}}, "then": _exporter(name, cls)}
            for name, cls in EXPORTERS.items()
        ],
    }
    exporters = {"type": ["array", "null"], "items": each}
    return closed(top | {"exporters": exporters}, about_section(Settings))


def section_schema(path: str) -> Schema:
    """Schema of one section and its inner sections; `path` as in SECTIONS."""
    inner = {
        camel(name.rpartition(".")[2]): section_schema(name) for name in SECTIONS if name.rpartition(".")[0] == path
    }
    # YAML reads a section as null if all its keys are commented out.
    return closed(_keys(SECTIONS[path]) | inner, about_section(SECTIONS[path])) | {"type": ["object", "null"]}


def closed(properties: Mapping[str, Schema], description: str, required: Iterable[str] = ()) -> Schema:
    """A mapping with these keys and no others. `propertyNames` repeats that, because its error lists the allowed keys."""
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "propertyNames": {"enum": [*properties]},
        "additionalProperties": False,
        **({"required": [*required]} if required else {}),
    }


def _exporter(name: str, cls: type[Any]) -> Schema:
    required = ["type", *(camel(each.name) for each in fields(cls) if about(each).required)]
    return closed({"type": {"const": name}} | _keys(cls), about_section(cls), required)


def _keys(cls: type[Any]) -> dict[str, Schema]:
    return {camel(each.name): _key(each) for each in fields(cls)}


def _key(attribute: "attrs.Attribute[Any]") -> Schema:
    known = about(attribute)
    value: Schema = {**known.kind.schema}
    # null means the default, as in the file.
    if "type" in value:
        kinds = value["type"] if isinstance(value["type"], list) else [value["type"]]
        value["type"] = [*kinds, "null"]
    if "enum" in value:
        value["enum"] = [*value["enum"], None]
    if "anyOf" in value:
        value["anyOf"] = [*value["anyOf"], {"type": "null"}]
    return {"description": known.doc, **_default(attribute, known), **value}


def _default(attribute: "attrs.Attribute[Any]", known: About) -> Schema:
    """For editors. Not where the default is derived from other keys, or missing."""
    if known.required or known.default_doc:
        return {}
    default = {} if isinstance(attribute.default, attrs.Factory) else attribute.default  # type: ignore[arg-type]
    return {"default": [*default] if isinstance(default, tuple) else default}
