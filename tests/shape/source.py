"""The source of `reconciler` as data: modules, their text and what they name."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "reconciler"


@dataclass(frozen=True)
class Module:
    """One file: its dotted name, and its text parsed."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Tell whether this is the `__init__` of a folder."""
        return self.path.name == "__init__.py"


@cache
def modules() -> Mapping[str, Module]:
    """Return every module of `reconciler` by its dotted name."""
    found = [_module(path) for path in sorted(PACKAGE.rglob("*.py"))]
    return {module.name: module for module in found}


@cache
def project() -> Mapping[str, Any]:
    """Return what pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def imports(module: Module) -> Iterator[str]:
    """Yield the dotted names that a module imports, at its head or inside functions.

    `from a import b` yields `a` and `a.b`: only the reader knows which of them are modules.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def strings(module: Module) -> Iterator[str]:
    """Yield the string constants of a module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(path.read_text(), str(path)))
