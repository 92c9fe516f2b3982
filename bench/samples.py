"""What was measured: values by what they are, by size, by manager."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median


def quantile(values: list[float], share: float) -> float:
    """Return the least value that is not below this share of them."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass(slots=True)
class Samples:
    """Values by name (`up_ms@1000`) and manager, and what could not be measured."""

    values: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, who: str, *values: float) -> None:
        """Keep some more values."""
        self.values[what][who] += values

    def of(self, what: str, who: str) -> list[float]:
        """Return the values; none when it was not measured."""
        return self.values.get(what, {}).get(who, [])

    def median(self, what: str, who: str) -> float | None:
        """Return the median, None when it was not measured."""
        values = self.of(what, who)
        return median(values) if values else None

    def p99(self, what: str, who: str) -> float | None:
        """Return what one of a hundred values exceeds, None when it was not measured."""
        values = self.of(what, who)
        return quantile(values, 0.99) if values else None

    def most(self, what: str, who: str) -> float | None:
        """Return the greatest value, None when it was not measured."""
        return max(self.of(what, who), default=None)
