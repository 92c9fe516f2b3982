"""The JSON Schema of a spec file (draft 2020-12), for editors and other tools, from the declarations.

It describes what users write: short forms, units, and `${...}` where a value may come from a variable.
What only the whole of a spec can tell (does the socket exist?) it leaves to the loader.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args, get_origin

from reconciler.model.spec import Document, Field, WatcherSpec, declared_fields
from reconciler.model.units import NAME_PATTERN, Between, Reads
from reconciler.model.value import Struct
from reconciler.specfile.shapes import EXTENSION, bare, is_word, members
from reconciler.specfile.words import EFFECTS, written

Json: TypeAlias = dict[str, object]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Final = ["string", "number", "boolean"]
_DEFAULTS: Final = "WatcherDefaults"
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
    properties = {
        each.name: _field(each, definitions)
        for each in declared_fields(cls)
        if each.attribute != "x"
    }
    if cls is WatcherSpec:
        properties["respawn"] = _RESPAWN
    if cls is Document:
        properties["defaults"] |= {"$ref": f"#/$defs/{_DEFAULTS}"}
    schema: Json = {"type": "object"}
    if cls is not Document and cls.__doc__:
        schema["description"] = cls.__doc__
    schema |= {"properties": properties, "additionalProperties": False}
    if len(properties) < len(declared_fields(cls)) + (cls is WatcherSpec):
        schema["patternProperties"] = {f"^{EXTENSION}": {}}
    required = [each.name for each in declared_fields(cls) if each.required]
    return schema | ({"required": required} if required else {})


def _field(declared: Field, definitions: dict[str, Json]) -> Json:
    schema = _type(declared.type, declared.markers, definitions)
    about = declared.about
    described: Json = {
        "description": f"{about.doc} An edit: {EFFECTS[about.effect]} ({about.effect})."
    }
    value = written(declared)
    if not declared.required and not isinstance(value, Struct):
        described["default"] = dict(value) if isinstance(value, Mapping) else value
    if declared.name in {"watchers", "sockets"}:
        schema["propertyNames"] = {"pattern": NAME_PATTERN}
    if declared.name == "defaults":
        schema = {}
    return described | schema


def _type(hint: object, outer: tuple[object, ...], definitions: dict[str, Json]) -> Json:
    hint, inner = bare(hint)
    marker = next((each for each in outer + inner if isinstance(each, Reads | Between)), None)
    choices = members(hint)
    if marker is not None:
        schemas = [_marked(marker), _VARIABLE]
        return _any([*schemas, {"type": "null"}] if type(None) in choices else schemas)
    schemas = [each for choice in choices for each in _plain(choice, definitions)]
    return _any(schemas)


def _marked(marker: Reads | Between) -> Json:
    if isinstance(marker, Between):
        return {"type": "integer", "minimum": marker.low, "maximum": marker.high}
    return marker.json_schema()


def _any(schemas: list[Json]) -> Json:
    kept = [each for index, each in enumerate(schemas) if each not in schemas[:index]]
    return dict(kept[0]) if len(kept) == 1 else {"anyOf": kept}


def _plain(choice: object, definitions: dict[str, Json]) -> list[Json]:
    """Return the ways to write one member of a type."""
    hint, markers = bare(choice)
    marker = next((each for each in markers if isinstance(each, Reads | Between)), None)
    if marker is not None:
        return [_marked(marker), _VARIABLE]
    if len(members(hint)) > 1:
        return [_type(hint, markers, definitions)]
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is type(None):
        return [{"type": "null"}]
    if origin is Literal:
        return [{"enum": list(arguments)}, _VARIABLE]
    if origin is tuple:
        return _list(arguments[0], definitions)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        value = bare(arguments[1])[0]
        item: Json = _type(arguments[1], (), definitions)
        if {bare(each)[0] for each in members(value)} - {type(None)} == {str}:
            item = {"type": [*_SCALARS, "null"]}
        return [{"type": "object", "additionalProperties": {} if value is object else item}]
    if isinstance(hint, type) and issubclass(hint, Struct):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}
            definitions[hint.__name__] = _block(hint, definitions)
        return [{"$ref": f"#/$defs/{hint.__name__}"}]
    if hint is str:
        return [{"type": "string"}]
    names = {int: "integer", float: "number", bool: "boolean"}
    return [{"type": names[hint]}, _VARIABLE] if isinstance(hint, type) and hint in names else [{}]


def _list(item: object, definitions: dict[str, Json]) -> list[Json]:
    if is_word(item):
        words: Json = {"type": "array", "items": {"type": [*_SCALARS, "null"]}, "minItems": 1}
        return [{"type": "string", "minLength": 1}, words]
    return [{"type": "array", "items": _type(item, (), definitions)}]
