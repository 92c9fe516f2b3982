"""Values in the notation of a spec, without what is secret in them: for plans, and for who asks what is in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.model.answer import OptionEntry
from reconciler.model.hiding import HIDDEN, hide, hide_in_command, is_secret_name
from reconciler.model.spec import Environment, Field, WatcherSpec, declared_fields
from reconciler.model.units import (
    DURATION,
    MODE,
    PERCENT,
    PERIOD,
    SECONDS,
    SHARE,
    SIZE,
    format_duration,
    format_mode,
    format_period,
    format_size,
)
from reconciler.model.value import Struct

MAX_SHOWN: Final = 80
_PLAIN: Final = re.compile(r"[A-Za-z/.~$_][^:#{}\[\],&*!|>'\"%@`]*(?<! )")
_WORDS_OF_YAML: Final = frozenset(("null", "true", "false", "~"))


def options(spec: WatcherSpec) -> Iterator[OptionEntry]:
    """Yield every field of a watcher, with its value as it is in force."""
    for entry in _options(spec, "", ""):
        if entry.field == "numprocesses":
            is_default = entry.is_default and not spec.numprocesses_formula
            yield OptionEntry(entry.field, spec.processes_text, is_default, entry.effect)
        else:
            yield entry


def _options(block: Struct, prefix: str, effect: str) -> Iterator[OptionEntry]:
    for declared in declared_fields(type(block)):
        value = getattr(block, declared.attribute)
        path = f"{prefix}{declared.name}"
        is_default = not declared.required and value == declared.default
        if path == "env" and value:
            for name in sorted(value):
                shown = shown_variable(name, value, longest=None)
                yield OptionEntry(f"env.{name}", shown, False, declared.about.effect)
        elif isinstance(value, Struct):
            yield from _options(value, f"{path}.", declared.about.effect)
        else:
            shown = HIDDEN if _is_hidden(declared, value) else written(declared, value)
            yield OptionEntry(path, shown, is_default, declared.about.effect or effect)


def _is_hidden(declared: Field, value: object) -> bool:
    return isinstance(value, str) and is_secret_name(declared.name)


def written(declared: Field, value: object) -> str:
    """Return the value of a field as users write it, however long."""
    if declared.name == "cmd" and isinstance(value, tuple):
        return " ".join(hide_in_command(map(str, value)))
    return _written(declared.name, declared.markers, value)


def shown(declared: Field, value: object) -> str:
    """Return the value of a field as users write it, cut where it is long."""
    text = written(declared, value)
    if declared.name == "cmd":
        return text[:MAX_SHOWN]
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def shown_variable(name: str, env: Environment, longest: int | None = MAX_SHOWN) -> str:
    """Return the value of an environment variable; of one whose name says that it is secret only that."""
    value = env.get(name)
    if value is None:
        return "null" if name in env else "(unset)"
    return HIDDEN if is_secret_name(name) else hide(value)[:longest]


def _written(name: str, markers: tuple[object, ...], value: object) -> str:
    """Return a value in the notation of a spec: `2m`, `{python: h.f, timeout: 2m}`, `[{role: view, user: www}]`.

    Of a block only what differs from its default; None in a block is left out.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _amount(markers, value)
    if isinstance(value, float):
        return f"{value:g}"
    if name == "listen" or SHARE in markers:
        return str(value)
    if name == "cmd" and isinstance(value, tuple):
        return _quoted(" ".join(hide_in_command(map(str, value))))
    if isinstance(value, Struct):
        return _block(value)
    if isinstance(value, Mapping):
        items = (f"{key}: {_part(str(key), item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(_written('', (), item) for item in value)}]"
    return _quoted(hide(str(value)))


def _amount(markers: tuple[object, ...], value: int) -> str:
    if DURATION in markers or SECONDS in markers:
        return format_duration(value)
    if PERIOD in markers:
        return format_period(value)
    if SIZE in markers:
        return format_size(value)
    if MODE in markers:
        return format_mode(value)
    return f"{value}%" if PERCENT in markers else str(value)


def _block(value: Struct) -> str:
    parts = [
        f"{each.name}: {HIDDEN if is_secret_name(each.name) else _written(each.name, each.markers, part)}"
        for each in declared_fields(type(value))
        if (part := getattr(value, each.attribute)) is not None
        if each.required or part != each.default
    ]
    return f"{{{', '.join(parts)}}}"


def _part(name: str, value: object) -> str:
    secret = is_secret_name(name) and not isinstance(value, Mapping)
    return HIDDEN if secret else _written(name, (), value)


def _quoted(text: str) -> str:
    """Return text as YAML writes it within { }: in quotes where it would mean something else."""
    plain = text and _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else json.dumps(text, ensure_ascii=False)
