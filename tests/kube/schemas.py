"""Whether Kubernetes would take an object: by the published schemas of its own kinds and of custom resources, strictly."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft4Validator, Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from tests.kube import tools


def faults(value: dict[str, Any], kubernetes: str) -> list[str]:
    """What is wrong with an object, an unknown field included; `kubernetes` is one of tools.SCHEMAS."""
    name = f"{value['kind']} {value['metadata']['name']}"
    validator = _custom(value["apiVersion"], value["kind"]) or _own(value["apiVersion"], value["kind"], kubernetes)
    if validator is None:
        return [f"{name}: Kubernetes {kubernetes} has no {value['kind']} of {value['apiVersion']}"]
    return [f"{name}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


@cache
def _own(api: str, kind: str, kubernetes: str) -> Any:
    group, _, version = api.rpartition("/")
    parts = [kind.lower(), *([group.split(".")[0]] if group else []), version]
    file = tools.schemas(kubernetes) / f"{'-'.join(parts)}.json"
    if not file.is_file():
        return None
    return Draft4Validator(json.loads(file.read_text()), registry=_definitions(kubernetes))


@cache
def _definitions(kubernetes: str) -> Any:
    contents = json.loads((tools.schemas(kubernetes) / "_definitions.json").read_text())
    resource = DRAFT4.create_resource(contents)
    # The newer ones refer to it by the other name.
    return Registry().with_resources([("_definitions.json", resource), ("/api/_definitions.json", resource)])


class _Loader(yaml.SafeLoader):
    """YAML 1.1 gives a lone `=` a meaning that nobody uses, and one of the definitions lists it as a sign."""


_Loader.yaml_implicit_resolvers = {
    sign: rules for sign, rules in _Loader.yaml_implicit_resolvers.items() if sign != "="
}


@cache
def definitions() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions."""
    files = sorted(tools.custom().glob("*.yaml"))
    return [each for file in files for each in yaml.load_all(file.read_text(), Loader=_Loader) if each]


@cache
def _custom(api: str, kind: str) -> Any:
    group, _, version = api.rpartition("/")
    for definition in definitions():
        spec = definition["spec"]
        if spec["names"]["kind"] == kind and spec["group"] == group:
            schemas = {each["name"]: each["schema"]["openAPIV3Schema"] for each in spec["versions"]}
            return Draft7Validator(_strict(schemas[version]))
    return None


def _strict(schema: Any) -> Any:
    """The API server prunes unknown fields silently; here they are faults. Its own marks are taken as they are meant."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict):
        found["properties"] = {name: _strict(value) for name, value in schema["properties"].items()}
        if schema["properties"].get("apiVersion") and schema["properties"].get("metadata"):
            found["properties"]["metadata"] = {"type": "object"}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    return found
