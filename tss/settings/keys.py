"""How a section declares a key: its default, its kind of value, and its sentence in the reference.

snake_case here, camelCase in YAML, TSS_<SECTION>_<KEY> in the environment.
"""

import inspect
from typing import Any, TypeVar, cast

import attrs
from attrs import frozen

from tss.settings.errors import masked
from tss.settings.kinds.kind import Kind

T = TypeVar("T")


@frozen
class About:
    """The kind of a key's value, and what the reference says of the key."""

    kind: Kind[Any]
    doc: str
    secret: bool = False
    required: bool = False
    default_doc: str = ""  # where the default is not the value in the class


def key(
    default: T,
    kind: Kind[T],
    doc: str,
    *,
    secret: bool = False,
    required: bool = False,
    default_doc: str = "",
) -> T:
    """One line of a section. Secrets stay out of `repr`, so that settings can be logged."""
    show = masked if secret else kind.show
    attribute: Any = attrs.field(
        default=attrs.Factory(dict) if isinstance(default, dict) else default,
        repr=(lambda value: repr(show(value))) if show else True,
        metadata={About: About(kind, doc, secret, required, default_doc)},
    )
    return cast(T, attribute)


def fields(section: type[Any]) -> tuple["attrs.Attribute[Any]", ...]:
    """The keys of a section, without the sections in it."""
    return tuple(field for field in attrs.fields(section) if About in field.metadata)


def about(attribute: "attrs.Attribute[Any]") -> About:
    return cast(About, attribute.metadata[About])


def camel(name: str) -> str:
    """As it is written in YAML; of a section in a section the path."""
    if "." in name:
        return ".".join(map(camel, name.split(".")))
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def about_section(cls: Any) -> str:
    """The docstring of a section's class. Python 3.13 has taken the indentation from it, older ones have not."""
    return inspect.cleandoc(cls.__doc__ or "")
