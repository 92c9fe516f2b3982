"""Draws bars and flames as SVG, with nothing but text."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

COLOURS: Final = {
    "reconcile": "#2563eb",
    "floor in C": "#94a3b8",
    "Circus": "#f59e0b",
    "supervisor": "#10b981",
    "runit": "#a855f7",
    "s6": "#ec4899",
}
FONT: Final = "font-family='system-ui, sans-serif' font-size='12'"
LEFT, WIDTH, BAR, GAP = 190, 760, 16, 14


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: whose, and its median, least and greatest value."""

    who: str
    value: float
    least: float
    greatest: float


def bars(title: str, unit: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Return groups of bars on a logarithmic scale; the line through a bar goes from least to greatest."""
    values = [each for _, group in groups for bar in group for each in (bar.least, bar.greatest)]
    positive = [each for each in values if each > 0] or [1.0]
    low = 10 ** math.floor(math.log10(min(positive)) - 0.001)
    high = 10 ** math.ceil(math.log10(max(positive)) + 0.001)

    def at(value: float) -> float:
        share = math.log(max(value, low) / low) / math.log(high / low)
        return LEFT + share * (WIDTH - LEFT - 90)

    height = 60 + sum(len(group) * (BAR + 3) + GAP for _, group in groups)
    lines = [_head(WIDTH, height, title)]
    tick = low
    while tick <= high * 1.001:
        lines.append(
            f"<line x1='{at(tick):.0f}' x2='{at(tick):.0f}' y1='34' y2='{height - 22}' stroke='#e2e8f0'/>"
            f"<text x='{at(tick):.0f}' y='{height - 8}' text-anchor='middle' fill='#64748b' {FONT}>"
            f"{tick:g}</text>"
        )
        tick *= 10
    lines.append(f"<text x='{WIDTH - 8}' y='{height - 8}' text-anchor='end' {FONT}>{unit}</text>")
    y = 42
    for label, group in groups:
        lines.append(f"<text x='8' y='{y + 12}' font-weight='bold' {FONT}>{escape(label)}</text>")
        for bar in group:
            middle = y + BAR / 2
            lines.append(
                f"<text x='{LEFT - 8}' y='{y + 12}' text-anchor='end' {FONT}>{escape(bar.who)}</text>"
                f"<rect x='{LEFT}' y='{y}' width='{max(at(bar.value) - LEFT, 1):.1f}' height='{BAR}'"
                f" fill='{COLOURS.get(bar.who, '#475569')}'/>"
                f"<line x1='{at(bar.least):.1f}' x2='{at(bar.greatest):.1f}' y1='{middle}' y2='{middle}'"
                " stroke='#0f172a'/>"
                f"<text x='{at(max(bar.value, bar.greatest)) + 6:.1f}' y='{y + 12}' {FONT}>"
                f"{bar.value:,.3g}</text>"
            )
            y += BAR + 3
        y += GAP
    return "\n".join([*lines, "</svg>\n"])


# ---- flames --------------------------------------------------------------------------------------

FLAME_WIDTH: Final = 1100
ROW: Final = 17
LEAST_SHARE: Final = 0.004
"""Frames that are narrower are left out: nobody could read them."""


@dataclass(slots=True)
class Frame:
    """A function and all that it called, by the number of samples."""

    samples: int = 0
    called: dict[str, Frame] = field(default_factory=dict)


def flame(title: str, stacks: Iterable[tuple[Sequence[str], int]]) -> str:
    """Return a flame graph, callers above; the width of a frame is its share of the samples."""
    root = Frame()
    for names, samples in stacks:
        frame = root
        frame.samples += samples
        for name in names:
            frame = frame.called.setdefault(name, Frame())
            frame.samples += samples
    found: list[str] = []
    deepest = _draw(root, 0.0, 0, max(root.samples, 1), found)
    height = 40 + (deepest + 1) * ROW
    return "\n".join([_head(FLAME_WIDTH, height, title), *found, "</svg>\n"])


def _draw(frame: Frame, x: float, depth: int, total: int, found: list[str]) -> int:
    """Draw what a frame called, widest first; return how deep it went."""
    deepest = depth - 1
    for name, called in sorted(frame.called.items(), key=lambda pair: -pair[1].samples):
        share = called.samples / total
        if share < LEAST_SHARE:
            continue
        width, y = share * (FLAME_WIDTH - 16), 34 + depth * ROW
        warm = colorsys.hls_to_rgb((20 + sum(name.encode()) % 35) / 360, 0.7, 0.85)
        colour = "#" + "".join(f"{round(part * 255):02x}" for part in warm)
        letters = int(width / 6.9)
        shown = name if len(name) <= letters else name[: max(letters - 1, 0)] + "…"
        text = f"<text x='{x + 10:.1f}' y='{y + 12}' {FONT}>{escape(shown)}</text>"
        found.append(
            f"<g><title>{escape(name)} {share:.1%}</title><rect x='{x + 8:.1f}' y='{y}'"
            f" width='{max(width - 0.5, 0.5):.1f}' height='{ROW - 1}' rx='2'"
            f" fill='{colour}'/>{text if letters > 3 else ''}</g>"
        )
        deepest = max(deepest, depth, _draw(called, x, depth + 1, total, found))
        x += width
    return deepest


def _head(width: int, height: float, title: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height:.0f}'"
        f" viewBox='0 0 {width} {height:.0f}'><rect width='100%' height='100%' fill='white'/>"
        f"<text x='8' y='22' font-weight='bold' font-family='system-ui, sans-serif' font-size='14'>"
        f"{escape(title)}</text>"
    )
