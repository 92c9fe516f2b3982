"""The JSON Schema of a spec file (draft 2020-12), for editors and other tools, from the declarations.

It describes what users write: short forms, units, and `${...}` where a value may come from a variable.
What only the whole of a spec can tell (does the socket exist?) it leaves to the loader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from reconciler.model.spec import Document, Field, WatcherSpec
from reconciler.model.units import NAME_PATTERN, Between, Reads
from reconciler.model.value import Struct
from reconciler.specfile.shapes import (
    EXTENSION,
    Block,
    Free,
    ListOf,
    MapOf,
    OneOf,
    Shape,
    Value,
    Words,
    block,
)
from reconciler.specfile.words import EFFECTS, written

Json: TypeAlias = dict[str, object]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Final = ["string", "number", "boolean"]
_TYPES: Final[dict[object, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
}
_DEFAULTS: Final = "WatcherDefaults"
_NULL: Final[Json] = {"type": "null"}
_VARIABLE: Final[Json] = {"$ref": "#/$defs/Variable"}
_RESPAWN: Final[Json] = {
    "type": "boolean",
    "description": "Another word for restart: true is always, false is never (a one-shot job).",
}


def json_schema() -> dict[str, object]:
    """Return the schema of one spec file."""
    definitions: dict[str, Json] = {
        "Variable": {
            "type": "string",
            "pattern": r"\$\{",
            "description": "A value with ${...} in it.",
        },
    }
    root = _block(Document, definitions)
    watcher = definitions["WatcherSpec"]
    definitions[_DEFAULTS] = {key: each for key, each in watcher.items() if key != "required"}
    head: Json = {"$schema": DIALECT, "title": "A spec of reconcile"}
    return head | root | {"$defs": dict(sorted(definitions.items()))}


def _block(cls: type, definitions: dict[str, Json]) -> Json:
    shape = block(cls)
    properties = {name: _field(*each, definitions) for name, each in shape.fields.items()}
    if cls is WatcherSpec:
        properties["respawn"] = _RESPAWN
    if cls is Document:
        properties["defaults"] |= {"$ref": f"#/$defs/{_DEFAULTS}"}
    schema: Json = {"type": "object"}
    if cls is not Document and cls.__doc__:
        schema["description"] = cls.__doc__
    schema |= {"properties": properties, "additionalProperties": False}
    if shape.extensible:
        schema["patternProperties"] = {f"^{EXTENSION}": {}}
    return schema | ({"required": list(shape.required)} if shape.required else {})


def _field(declared: Field, shape: Shape, definitions: dict[str, Json]) -> Json:
    schema = _any(shape, definitions)
    about = declared.about
    described: Json = {
        "description": f"{about.doc} An edit: {EFFECTS[about.effect]} ({about.effect})."
    }
    value = written(declared, shape)
    if not declared.required and not isinstance(value, Struct):
        described["default"] = dict(value) if isinstance(value, Mapping) else value
    if declared.name == "plugins":
        schema["additionalProperties"] = {"$ref": "#/$defs/WatcherSpec"}
    if declared.name in {"watchers", "plugins", "sockets"}:
        schema["propertyNames"] = {"pattern": NAME_PATTERN}
    if declared.name == "defaults":
        schema = {}
    return described | schema


def _any(shape: Shape, definitions: dict[str, Json]) -> Json:
    schemas = _ways(shape, definitions) + ([_NULL] if shape.nullable else [])
    kept = [each for index, each in enumerate(schemas) if each not in schemas[:index]]
    return dict(kept[0]) if len(kept) == 1 else {"anyOf": kept}


def _ways(shape: Shape, definitions: dict[str, Json]) -> list[Json]:
    """Return the ways to write what has a shape."""
    match shape:
        case OneOf(choices):
            return [way for each in choices for way in _ways(each, definitions)]
        case Value(Between(low, high)):
            return [{"type": "integer", "minimum": low, "maximum": high}, _VARIABLE]
        case Value(Reads() as marker):
            return [marker.json_schema(), _VARIABLE]
        case Value() if shape.words:
            return [{"enum": list(shape.words)}, _VARIABLE]
        case Value(kind):
            return [{"type": _TYPES[kind]}, *([] if kind is str else [_VARIABLE])]
        case Words():
            words: Json = {"type": "array", "items": {"type": [*_SCALARS, "null"]}, "minItems": 1}
            return [{"type": "string", "minLength": 1}, words]
        case ListOf(item):
            return [{"type": "array", "items": _any(item, definitions)}]
        case MapOf(Value(kind)) if kind is str:
            return [{"type": "object", "additionalProperties": {"type": [*_SCALARS, "null"]}}]
        case MapOf(value):
            return [{"type": "object", "additionalProperties": _any(value, definitions)}]
        case Block(cls):
            if cls.__name__ not in definitions:
                definitions[cls.__name__] = {}
                definitions[cls.__name__] = _block(cls, definitions)
            return [{"$ref": f"#/$defs/{cls.__name__}"}]
        case Free():
            return [{}]
