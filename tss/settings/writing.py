"""Settings as text: the effective settings as YAML, the reference as Markdown."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, cast

import attrs

from tss.settings.document import dump
from tss.settings.environment import variable
from tss.settings.errors import MASK, masked
from tss.settings.keys import About, about, about_section, camel, fields
from tss.settings.kinds.kafka import OWNED_PROPERTIES, is_secret_property
from tss.settings.kinds.patterns import SqlPattern
from tss.settings.kinds.policies import PolicySetting
from tss.settings.kinds.redis import redis_url
from tss.settings.model import SECTIONS, Settings
from tss.settings.redis_url import passwords, without_password
from tss.settings.sections.exporters import EXPORTERS, Exporter

# ---- effective settings


def render(settings: Settings) -> str:
    """The settings as YAML, with *** for secrets. If there are no secrets, loading this text gives the same settings."""
    return dump(effective(settings))


def effective(settings: Settings) -> dict[str, object]:
    """All keys with their values, by section as in the YAML file, with *** for secrets."""
    document: dict[str, object] = {}
    for field in attrs.fields(Settings):
        value = getattr(settings, field.name)
        document[camel(field.name)] = (
            [_exporter(each) for each in value] if field.name == "exporters" else keys_of(value)
        )
    return document


def _exporter(exporter: Exporter) -> dict[str, object]:
    keys = keys_of(exporter)
    return {"name": keys.pop("name"), "type": exporter.type, **keys}


def keys_of(section: Any) -> dict[str, object]:
    """All keys of a section with their values, with *** for secrets."""
    keys: dict[str, object] = {
        camel(field.name): _plain(field.name, getattr(section, field.name), about(field))
        for field in fields(type(section))
    }
    inner = {field.name: getattr(section, field.name) for field in attrs.fields(type(section))}
    return keys | {camel(name): keys_of(each) for name, each in inner.items() if attrs.has(type(each))}


def _plain(name: str, value: object, known: About) -> object:
    if known.secret:
        return masked(value)
    if known.kind is redis_url:
        return without_password(str(value))
    if name == "properties":
        entries = cast(dict[str, str], value).items()
        return {name: masked(entry) if is_secret_property(name) else entry for name, entry in entries}
    if isinstance(value, tuple):
        return [_short(entry) for entry in value]
    return _short(value)


def _short(value: object) -> object:
    if isinstance(value, SqlPattern | PolicySetting):
        return value.plain()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def secrets(settings: Settings) -> tuple[str, ...]:
    """All secrets in use, so that the log can mask them everywhere."""
    sections = [attrgetter(name)(settings) for name in SECTIONS]
    found: list[str] = []
    for section in [*sections, *settings.exporters]:
        for field in fields(type(section)):
            value = getattr(section, field.name)
            if about(field).secret:
                found += value.values() if isinstance(value, dict) else [value]
            elif about(field).kind is redis_url:
                found += passwords(value)
            elif field.name == "properties":
                found += [entry for name, entry in value.items() if is_secret_property(name)]
    return tuple(each for each in found if each)


# ---- reference

_INTRODUCTION = f"""\
# Settings

<!-- Made by `python -m tss.settings > docs/settings.md`: do not edit. -->

Settings come from a YAML file (`--config FILE`, or the variable `TSS_CONFIG`) and from the environment. The file has one
mapping for each section below. A variable overrides the file. Only two settings are required: `kafka.brokers`, and a destination
(`exporters`, `datadog.apiKey` or `datadog.agentUrl`).

- Variables are named `TSS_<SECTION>_<KEY>`, as listed. Write lists and mappings as YAML text, such as
  `TSS_SPAN_COMPRESSION_SQL_PATTERNS='["a", "b"]'`. For a key with text, an empty variable means empty text. For other keys it is an
  error.
- A secret can be in a file: `<VARIABLE>_FILE` is the path of the file. A line break at the end of the file does not count. Secrets are
  shown as `{MASK}` everywhere.
- `null` means the default. Choices may be written in any case.
- A number may have a fraction, unless the table says "a whole number". The end of a key's name says the unit of a number:
  `...Secs`, `...Ms`, `...Bytes`; a `...Rate` is a share from 0 to 1. Or write the unit, in the file and in variables alike:

  | sort | units | examples |
  |---|---|---|
  | duration | `ms`, `s`, `m`, `h`, `d` | `30s`, `1.5h`, `1h30m` |
  | size | `B`, `kB` or `KB`, `MB`, `GB` (1000), `KiB`, `MiB`, `GiB` or `Ki`, `Mi`, `Gi` (1024) | `2GiB`, `500 MB` |
  | share | `%` | `10%`, `0.5 %` |

  Upper and lower case count: `5M` is refused. Counts have no unit: write `1000000`, not `1M`.
- An unknown key is an error, and so is an unknown variable that begins with `TSS_`. Variables that Kubernetes sets for services
  (such as `TSS_..._SERVICE_HOST`) are ignored. All errors are reported together, and the exit code is 2.

`tss check --config FILE` checks the settings and says which are in force; `--all` prints every one, `--connect` asks the servers.

Editors that know [JSON Schema](tss.schema.json) complete the keys and mark mistakes. For VS Code (YAML extension), Neovim, Emacs and
others with yaml-language-server, put this line at the top of `tss.yaml`, with the path or the address of the schema:

```yaml
# yaml-language-server: $schema=docs/tss.schema.json
```

JetBrains IDEs take the same file under Settings, Languages & Frameworks, Schemas and DTDs, JSON Schema Mappings. `python -m tss.settings --schema` prints
the schema of the installed version. Helm's values have their own, which the chart brings along.
"""

_EXPORTERS = """\
## exporters

A list of destinations, each with `name`, `type` and the keys of its type. A kept trace goes to every destination whose `match`
accepts it. In the environment, `TSS_EXPORTERS` is the whole list as YAML text, and `TSS_EXPORTERS_FILE` a file with it. If the list
is empty, the `datadog` section is the only destination, with the name `datadog`; then `datadog.apiKey` or `datadog.agentUrl` is required.

```yaml
exporters:
  - {name: archive, type: file, path: /var/lib/tss/kept.jsonl}
  - {name: backend, type: otlp, endpoint: "http://collector:4318"}
```
"""


def reference() -> str:
    return "\n".join(_reference())


def _reference() -> Iterator[str]:
    yield _INTRODUCTION
    for name, cls in SECTIONS.items():
        if name == "dead_letter":
            yield from _exporters()
        yield f"## {camel(name)}\n\n{about_section(cls)}\n"
        yield from _table(cls, name)
        if name == "kafka":
            yield from _owned_properties()


def _exporters() -> Iterator[str]:
    yield _EXPORTERS
    for name, cls in EXPORTERS.items():
        yield f"### type: {name}\n\n{about_section(cls)}\n"
        yield from _table(cls, None)


def _table(cls: Any, section: str | None) -> Iterator[str]:
    yield "| key | default | allowed | meaning |\n|---|---|---|---|"
    for field in fields(cls):
        known = about(field)
        variables = f"<br>`{variable(section, field.name)}`" if section else ""
        cells = (f"`{camel(field.name)}`{variables}", _default(field, known), known.kind.allowed, _meaning(known))
        yield _row(*cells)
    yield ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _default(field: "attrs.Attribute[Any]", known: About) -> str:
    if known.required:
        return "required"
    if known.default_doc:
        return known.default_doc
    default = {} if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]
    plain = _plain(field.name, default, known)
    return f"`{_in_one_line(plain)}`" if plain != "" else "empty"


def _in_one_line(plain: object) -> str:
    """As YAML that fits into the cell of a table."""
    if isinstance(plain, list):
        return f"[{', '.join(map(_in_one_line, plain))}]"
    return dump([plain]).removeprefix("- ").strip()


def _meaning(known: About) -> str:
    marks = [known.doc, "**Secret.**" if known.secret else ""]
    return " ".join(mark for mark in marks if mark)


def _owned_properties() -> Iterator[str]:
    yield "Not allowed in `properties`:\n\n| property | reason |\n|---|---|"
    for name, reason in OWNED_PROPERTIES.items():
        yield _row(f"`{name}`", reason)
    yield ""
