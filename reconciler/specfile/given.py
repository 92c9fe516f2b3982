"""A block of a spec as rules look at it: what it says beside how that is written."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.value import Struct
from reconciler.specfile.mistakes import Mistakes
from reconciler.specfile.yaml_text import Map


class Given(Struct, frozen=True):
    """`data` is by attribute; `node` has the places of mistakes, which are told under the path `where`."""

    data: Mapping[str, object]
    node: Map
    where: str
    mistakes: Mistakes

    def value(self, name: str) -> object:
        """Return what a field says; the attribute of `as` is `as_`."""
        return self.data.get(name, self.data.get(f"{name}_"))

    def block(self, name: str) -> Given | None:
        """Return a block in it, when there is one that can be looked at."""
        data, node = self.value(name), self.node.get(name)
        if not isinstance(data, Mapping) or not isinstance(node, Map):
            return None
        return Given(data, node, f"{self.where}.{name}", self.mistakes)

    def text(self, name: str) -> str | None:
        """Return the text of a field, None where there is none."""
        text = self.data.get(name)
        return text if isinstance(text, str) and name in self.node.entries else None

    def says(self, *names: str) -> list[str]:
        """Return those of the fields that are written and not null, also where they were a mistake."""
        written = [name for name in names if name in self.node.entries]
        return [name for name in written if self.data.get(name, "") is not None]

    def wrong(self, name: str, message: str, hint: str = "") -> None:
        """Report a mistake at the value of a field."""
        self.mistakes.at(self.node.entries[name].value, f"{self.where}.{name}", message, hint)

    def out_of_place(self, name: str, message: str, hint: str) -> None:
        """Report a mistake at the name of a field."""
        self.mistakes.at(self.node.entries[name].key, f"{self.where}.{name}", message, hint)

    def warn(self, name: str, message: str, hint: str = "") -> None:
        """Warn at the value of a field."""
        self.mistakes.warn(self.node.entries[name].value, f"{self.where}.{name}", message, hint)
