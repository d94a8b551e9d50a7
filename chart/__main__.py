"""What is made from the chart's values.yaml and the daemon's settings classes: the schema, the README, the secrets' table, the dashboard.

`python -m chart` writes them; with --check it only tells which are stale (exit code 1).
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen

from chart.dashboard import dashboard
from tss.settings.environment import variable
from tss.settings.keys import about, camel, fields
from tss.settings.model import SECTIONS
from tss.settings.schema import Schema, closed, settings_schema
from tss.settings.sections.exporters import EXPORTERS

CHART = Path(__file__).resolve().parents[1] / "helm-charts" / "tail-sampling-selector"
# Of librdkafka's properties those that `settings.kinds.kafka.is_secret_property` takes for secrets; RE2, since Helm reads it.
_SECRET_PROPERTY = r'(?:password|secret|\.pem|oauthbearer\.config|token)":'  # noqa: S105  # no password
_LINE = re.compile(r"( *)([A-Za-z]\w*):(?: .*)?$")


@frozen
class Value:
    """One value of values.yaml with what its comment says of it."""

    path: tuple[str, ...]
    default: Any
    doc: str
    more: Schema

    @property
    def open(self) -> bool:
        """Whether it is given as a whole, so that what is in it is the operator's affair."""
        return not isinstance(self.default, dict) or not self.default or "additionalProperties" in self.more


def values(text: str) -> Iterator[Value]:
    """Each value of the file that a comment stands above, or that is a mapping of such."""
    defaults = yaml.safe_load(text)
    at: list[str] = []
    docs: list[str] = []
    more: Schema = {}
    for line in text.splitlines():
        comment = line.strip()
        if comment.startswith("# @schema "):
            more |= json.loads(comment.removeprefix("# @schema "))
        elif comment.startswith("# -- "):
            docs = [comment.removeprefix("# -- ")]
        elif found := _LINE.fullmatch(line):
            at = [*at[: len(found[1]) // 2], found[2]]
            yield Value(tuple(at), _get(defaults, at), " ".join(docs), more)
            docs, more = [], {}
        else:
            docs, more = [], {}


def _get(mapping: Any, path: list[str]) -> Any:
    for name in path:
        mapping = mapping.get(name) if isinstance(mapping, dict) else None
    return mapping


def documented(text: str) -> list[Value]:
    """Those of the chart's own: without what is inside an open mapping, and without the daemon's settings."""
    found: list[Value] = []
    whole: set[tuple[str, ...]] = set()
    for value in values(text):
        if any(value.path[:length] in whole for length in range(1, len(value.path))):
            continue
        if value.open:
            whole.add(value.path)
        found.append(value)
    return found


# ---- the schema


def schema(text: str) -> Schema:
    """Of the chart's values: its own, and under `config` the daemon's."""
    tree: dict[str, Any] = {}
    for value in documented(text):
        if value.path[0] != "config":
            _put(tree, value)
    properties = {name: _closed(node) for name, node in tree.items()}
    # Helm itself puts `global` into the values of every chart.
    properties |= {"config": _config(text), "global": {"type": "object"}}
    root = closed(properties, "Values of the chart.", [*_needed(tree), "config"])
    return {"$schema": "http://json-schema.org/draft-07/schema#", **root}


def _config(text: str) -> Schema:
    """The daemon's settings; what the templates read of them must not be taken away by a null."""
    found = settings_schema()
    read = yaml.safe_load(text)["config"]
    for section, keys in read.items():
        found["properties"][section]["required"] = [*keys]
    # The templates compute the pod's grace period from this key. A text such as "30s", which the daemon takes too, would be 0 there.
    stop = found["properties"]["app"]["properties"]["shutdownTimeoutSecs"]
    stop["type"] = "number"
    del stop["pattern"]
    return found | {"required": [*read]}


def _needed(properties: Mapping[str, Schema]) -> list[str]:
    """Helm takes a value away that is given as null. Texts, lists and mappings may be missing, all else has a default."""
    kinds = ({"type": "integer"}, {"type": "boolean"})
    return [
        name
        for name, node in properties.items()
        if "type" not in node or {"type": node["type"]} in kinds or "propertyNames" in node
    ]


def _put(tree: dict[str, Any], value: Value) -> None:
    for name in value.path[:-1]:
        tree = tree[name]["properties"]
    tree[value.path[-1]] = _type(value) if value.open else {"properties": {}, "description": value.doc}


def _closed(node: Schema) -> Schema:
    if "propertyNames" in node or "type" in node:
        return node
    properties = {name: _closed(inner) for name, inner in node["properties"].items()}
    return closed(properties, node["description"], _needed(node["properties"]))


def _type(value: Value) -> Schema:
    names = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return {"description": value.doc, "type": names[type(value.default)], **value.more}


# ---- the README


def readme(text: str) -> str:
    rows = [
        f"| `{'.'.join(each.path)}` | {_shown(each.default)} | {each.doc} |" for each in documented(text) if each.open
    ]
    return _README.replace("VALUES", "\n".join(rows))


def _shown(default: object) -> str:
    text = json.dumps(default)
    return f"`{text}`" if len(text) < 60 else "see values.yaml"


_README = """# Helm chart of the Tail Sampling Selector

<!-- Made from values.yaml by `make docs`: do not edit. -->

```bash
helm install tail-sampling-selector ./helm-charts/tail-sampling-selector \\
  --namespace tail-sampling --create-namespace \\
  --set config.kafka.brokers=kafka:9092 \\
  --set config.redis.url=redis://redis:6379 \\
  --set config.datadog.apiKey=your-api-key
```

Kubernetes 1.20 or newer, Helm 3.8 or newer, Helm 4. [docs/deployment.md](../../docs/deployment.md) goes through all of it;
`ci/` has values to begin with; [UPGRADING.md](UPGRADING.md) says what changes between versions.

`config` takes every key of [docs/settings.md](../../docs/settings.md); what is left out has the daemon's default. Keys
that are secrets there (and `exporters`, `redis.url`, `kafka.properties` where they hold one) go into a Secret, all else into
a ConfigMap. Unknown keys are refused, and the error lists those that there are (Helm 4 puts a wrong place before that list; the line
above it has the right one). On the command line Helm takes a fraction
for text, and the chart refuses it: `--set-json config.sampling.defaultSampleRate=0.05` instead of `--set`. A percentage
works with both: `--set config.sampling.defaultSampleRate=5%`.

| value | default | meaning |
|---|---|---|
VALUES
"""


# ---- secrets


def secrets() -> Mapping[str, Mapping[str, str]]:
    """By key of the settings: its variable, and (RE2, over its JSON) when it is a secret; an empty text is always."""
    found = {
        f"{camel(section)}.{camel(key.name)}": {"variable": variable(section, key.name), "when": ""}
        for section, cls in SECTIONS.items()
        for key in fields(cls)
        if about(key).secret
    }
    within = {camel(key.name) for cls in EXPORTERS.values() for key in fields(cls) if about(key).secret}
    exporters = {"variable": "TSS_EXPORTERS", "when": f'"(?:{"|".join(sorted(within))})":|{_SECRET_PROPERTY}'}
    properties = {"variable": variable("kafka", "properties"), "when": _SECRET_PROPERTY}
    redis = {"variable": variable("redis", "url"), "when": "@"}
    return found | {"exporters": exporters, "kafka.properties": properties, "redis.url": redis}


def made() -> dict[Path, str]:
    text = (CHART / "values.yaml").read_text()
    return {
        CHART / "values.schema.json": json.dumps(schema(text), indent=1) + "\n",
        CHART / "README.md": readme(text),
        CHART / "files" / "secrets.json": json.dumps(secrets(), indent=1) + "\n",
        CHART / "files" / "dashboard.json": dashboard() + "\n",
    }


def main(arguments: list[str]) -> int:
    stale = [path for path, text in made().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if "--check" in arguments:
            sys.stdout.write(f"{path.relative_to(CHART.parents[1])} is stale: make docs\n")
        else:
            path.write_text(made()[path])
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
