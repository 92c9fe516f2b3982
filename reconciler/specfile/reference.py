"""The language for people: the reference page, and the explanation of one field.

`python -m reconciler.specfile.reference > docs/reference.md` writes the page.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from reconciler.model.spec import Document
from reconciler.model.units import FORMULA
from reconciler.specfile.hints import did_you_mean
from reconciler.specfile.machine import this_machine
from reconciler.specfile.shapes import OneOf, Shape, Value
from reconciler.specfile.substitute import SLOT_PLACES, SOCKET_PLACES
from reconciler.specfile.words import (
    ANY_NAME,
    EFFECTS,
    Placed,
    all_fields,
    default_text,
    fields_of,
    type_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HEAD: Final = f"""# Reference of the spec language

<!-- Generated: python -m reconciler.specfile.reference > docs/reference.md -->

Every field with its type, its default and what an edit of it does to what runs:

| effect | an edit of the field |
|---|---|
{chr(10).join(f"| `{name}` | {meaning} |" for name, meaning in EFFECTS.items())}

## How values are written

- **YAML** is read by the core rules of YAML 1.2: only `true` and `false` are booleans, `no` and `022` are text.
  Equal keys, tags and unknown fields are mistakes; anchors and `<<` merges are allowed. `x-*` keys are yours.
- **Durations** carry their unit: `500ms`, `30s`, `5m`, `1h30m`, `2d`. Where the type is *duration* and Circus had
  seconds (`stop.timeout`, `max_age`, `spawn_interval`, `hooks.*.timeout`), a bare number of seconds works too.
- **Sizes**: `512B`, `64KiB`, `100MiB`, `1GiB`, `10MB`. **Octal modes**: `"0660"`, `022`. **Percentages**: `50%`.
- **Signals** by name: `TERM`, `SIGUSR1`, `RTMIN+1`.
- **Commands** are one text, split as a shell would but not run by one, or a list of words. What only a shell
  understands (`&&`, `|`, `>`, `$(...)`, a line break between two words) is a mistake without `shell:`, unless it is
  quoted.
- **Text** in `env`, `labels`, `vars` and commands stays as written: `DEBUG: true` gives `true`, `V: 1.10` gives
  `1.10`.
- **Names** of watchers and sockets: at most 64 of `A-Z a-z 0-9 _ -`, a letter or digit first, and no two that differ by
  case only.
- **Paths** are relative to the folder of the file that defines the watcher; `env_file`, `include` and `overrides`
  to the file they are written in.
- **Environment**, later wins: what is inherited, `env` of the spec, `defaults.env`, `env_file`, the watcher's `env`.
  `null` removes a variable; empty text (`""`) is a value.
- **Defaults** are merged block by block; a list or a value is replaced as a whole, and a map written as `{{}}` takes
  nothing from them. `defaults` and `env` of an included file hold for the watchers of that file, those of the file that
  includes it for all; `vars` are shared by all files.
- **Limits**: 4 MiB a file, 32 MiB and 10,000 watchers a spec.

## Variables

| written | becomes |
|---|---|
| `${{name}}` | the variable of `vars:` |
| `${{env.NAME}}` | the manager's environment variable |
| `${{x-name}}` | the watcher's or the spec's `x-name` |
| `${{hostname}}` | the name of the machine (uname -n) |
| `${{watcher}}` | the name of the watcher |
| `${{slot}}` | the number of the process, from 1; in {SLOT_PLACES} |
| `${{slot+7999}}`, `${{slot-1}}` | a number added to it, 1 taken away from it; in the same fields |
| `${{slot:02}}`, `${{slot+7999:05}}` | the same with at least so many digits, from 1 to 9 |
| `${{sockets.NAME}}` | the descriptor of the socket, which becomes one of the watcher's; in {SOCKET_PLACES} |
| `${{name:-default}}` | the default when the variable is not set or empty; also for `env.` and `x-` |
| `$$` | a dollar sign |

A variable that is not set is a mistake.
"""


def reference_markdown() -> str:
    """Return the reference page."""
    parts = [_HEAD, _section("The file", "", fields_of(Document))]
    parts += [
        _section(_title(each), (cls.__doc__ or "").strip(), fields_of(cls))
        for each in all_fields()
        for cls in each.blocks
    ]
    return "\n".join(_unique(parts))


def _title(placed: Placed) -> str:
    many = placed.name in {"watchers", "sockets"}
    return f"`{placed.name}.{ANY_NAME}`" if many else f"`{placed.name}`"


def _unique(parts: list[str]) -> list[str]:
    """Return the parts with the sections of all hooks, or of all limits, said once."""
    seen: dict[str, str] = {}
    for part in parts:
        title, _, body = part.partition("\n")
        if body in seen.values():
            continue
        if title.startswith("## `watchers.NAME.hooks."):
            title = "## `watchers.NAME.hooks.*`"
        if title == "## `watchers.NAME.limits.as`":
            title = "## `watchers.NAME.limits.*`"
        seen[title if title not in seen else part] = body
    return [f"{title}\n{body}" if "\n" not in title else title for title, body in seen.items()]


def _section(title: str, doc: str, fields: Iterable[Placed]) -> str:
    rows = [
        f"| `{each.name}` | {_cell(type_text(each.shape))} | {_code(default_text(each.field, each.shape))} "
        f"| {each.field.about.effect} | {_cell(each.field.about.doc)} |"
        for each in fields
    ]
    text = f"{doc}\n\n" if doc else ""
    head = "| field | type | default | effect | meaning |\n|---|---|---|---|---|\n"
    return f"## {title}\n\n{text}{head}" + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _code(text: str) -> str:
    return f"`{text}`" if text and text != "required" else text


def explain(field_path: str) -> str:
    """Return what is known of a field: `watchers.web.stop.timeout`, `watchers.stop`, `stop.timeout`.

    An empty path is answered with all fields. Raises `LookupError`, with near names, when there is
    no such field.
    """
    known = list(all_fields())
    wanted = [part for part in field_path.strip(".").split(".") if part]
    if not wanted:
        return _listing(known)
    if wanted[0] == "plugins" and len(wanted) > 1:
        wanted[0] = "watchers"  # they have the same fields
    # `watchers.stop.timeout` is the block `stop` rather than a watcher of that name.
    found: list[Placed] = []
    for is_meant in (_is_declared, _is_of_a_name, _ends_with, _ends_with_declared):
        found = found or [each for each in known if is_meant(each.path, wanted)]
    if not found:
        near = did_you_mean(wanted[-1], {each.path[-1] for each in known})
        msg = f"there is no field '{field_path}'" + (f": {near}" if near else "")
        raise LookupError(msg)
    return "\n".join(_page(each) for each in found)


def _is_declared(path: Sequence[str], wanted: list[str]) -> bool:
    return [part for part in path if part != ANY_NAME] == wanted


def _is_of_a_name(path: Sequence[str], wanted: list[str]) -> bool:
    """Tell whether a path is meant with the user's names in it."""
    same_length = len(path) == len(wanted)
    return same_length and all(a in (ANY_NAME, b) for a, b in zip(path, wanted, strict=True))


def _ends_with(path: Sequence[str], wanted: list[str]) -> bool:
    return list(path[-len(wanted) :]) == wanted


def _ends_with_declared(path: Sequence[str], wanted: list[str]) -> bool:
    """Tell whether a path is meant without its beginning and without the user's names: `secrets.refresh`."""
    return _ends_with([part for part in path if part != ANY_NAME], wanted)


def _page(placed: Placed) -> str:
    field = placed.field
    default = default_text(field, placed.shape)
    facts = type_text(placed.shape)
    if default:
        facts += f"; {default}" if field.required else f"; default {default}"
    effect = field.about.effect
    lines = [
        placed.name,
        f"  {facts}",
        f"  {field.about.doc}",
        f"  an edit: {EFFECTS[effect]} ({effect})",
    ]
    if any(isinstance(each, Value) and each.kind is FORMULA for each in _choices(placed.shape)):
        here = this_machine().processors
        lines.append(f"  on this machine: cpus = {here}, cpus*2 = {2 * here}")
    page = "\n".join(lines) + "\n"
    inner = [one for cls in placed.blocks for one in fields_of(cls)]
    return f"{page}\n{_listing(inner)}" if inner else page


def _choices(shape: Shape) -> tuple[Shape, ...]:
    return shape.choices if isinstance(shape, OneOf) else (shape,)


def _listing(fields: list[Placed]) -> str:
    rows = [
        (
            each.name,
            type_text(each.shape),
            default_text(each.field, each.shape),
            each.field.about.doc,
        )
        for each in fields
    ]
    widths = [min(max(len(row[column]) for row in rows), 28) for column in range(3)]
    return "".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        + "\n"
        for row in rows
    )


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
