"""Spec files through the code that reads them, in processes with the loader's limits, many files each.

Two thirds are real specs (of the examples, the guide and our own folder) with some lines made worse, the rest
are put together from the declared fields. Each has a secret where secrets belong, in a line that is left as it is:
no answer may show it, nor a character that a terminal would obey.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import get_args

from reconciler.model.spec import (
    ApplySpec,
    BackoffSpec,
    DaemonSpec,
    HookSpec,
    LimitsSpec,
    LogsSpec,
    SecretSpec,
    SocketSpec,
    StopSpec,
    WatcherSpec,
    declared_fields,
)
from tests.e2e.stage import ROOT
from tests.fuzz.mutations import ODD_TEXTS, worse_lines

CANARY = "Xq7hunter2pL"
FILES_PER_PROCESS = 2500
SECRET_LINES = f"env:\n  DB_PASSWORD: {CANARY}\n"
BLOCKS = (BackoffSpec, StopSpec, LogsSpec, LimitsSpec, HookSpec, SecretSpec)
_FENCE = re.compile(r"^```yaml [^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Figures:
    """What a run has shown."""

    files: int
    seconds: float
    accepted: int
    mistakes: int
    slowest_s: float
    growth_bytes: int

    def __str__(self) -> str:
        return (
            f"specs: {self.files} read in {self.seconds:.0f} s, {self.accepted} valid, {self.mistakes} mistakes "
            f"told, the slowest took {self.slowest_s * 1e3:.0f} ms; memory +{self.growth_bytes / 2**20:.1f} MiB; "
            f"no crash"
        )


def run(files: int, seed: int, jobs: int) -> Figures:
    """Read files in `jobs` processes at a time and return the figures; what broke is an assertion that failed."""
    begun = time.monotonic()
    parts = [min(FILES_PER_PROCESS, files - at) for at in range(0, files, FILES_PER_PROCESS)]
    waiting = list(enumerate(parts))
    running: list[subprocess.Popen[str]] = []
    totals: list[dict[str, float]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            number, count = waiting.pop(0)
            running.append(_start(seed * 1_000_000 + number, count))
        totals.append(_result(running.pop(0)))
    return Figures(
        files,
        time.monotonic() - begun,
        int(sum(each["accepted"] for each in totals)),
        int(sum(each["mistakes"] for each in totals)),
        max(each["slowest"] for each in totals),
        int(max(each["growth"] for each in totals)),
    )


def _start(seed: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fuzz.reader", str(seed), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _result(process: subprocess.Popen[str]) -> dict[str, float]:
    arguments = " ".join(map(str, process.args[1:])) if isinstance(process.args, list) else ""
    output, _ = process.communicate()
    lines = [json.loads(line) for line in output.splitlines() if line]
    remarkable = [line for line in lines if "text" in line]
    for line in remarkable:
        print(
            f"python {arguments}: {line['wrong'] or 'slow'}, {line['took']:.2f} s:\n{line['text'][:2000]}"
        )
    last = lines[-1] if lines else {}
    assert process.returncode == 0, f"python {arguments}: exit {process.returncode} at {last}"
    assert not [line for line in remarkable if line["wrong"]], arguments
    found: dict[str, float] = last
    return found


# ---- drawing --------------------------------------------------------------------------------------


class Specs:
    """Draws spec files from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        pages = [*sorted(ROOT.glob("docs/guide/*.md")), ROOT / "README.md"]
        self._real = [path.read_text() for path in sorted(ROOT.glob("examples/*/*.yaml"))]
        self._real += [path.read_text() for path in sorted(ROOT.glob("specs/*.yaml"))]
        self._real += [text for page in pages for text in _FENCE.findall(page.read_text())]

    def draw(self) -> str:
        """Return the text of a spec file."""
        chance = self._chance
        base = chance.choice(self._real) if chance.random() < 0.67 else self._made()
        text = worse_lines(chance, base, self._real) if chance.random() < 0.7 else base
        # At the end, where no line above can make something else of it than what it is.
        clean = text.rstrip("\n")
        return f"{clean}\n{SECRET_LINES}" if not re.search(r"^env:", clean, re.MULTILINE) else text

    def _made(self) -> str:
        lines = []
        if self._chance.random() < 0.3:
            lines += ["daemon:", *self._fields(DaemonSpec, 2)]
        if self._chance.random() < 0.3:
            lines += ["apply:", *self._fields(ApplySpec, 2)]
        if self._chance.random() < 0.5:
            lines += ["sockets:", "  http:", *self._fields(SocketSpec, 4)]
        lines.append("watchers:")
        for number in range(self._chance.randint(1, 4)):
            name = self._chance.choice(
                (f"w{number}", "web", json.dumps(self._chance.choice(ODD_TEXTS)))
            )
            lines += [f"  {name}:", "    cmd: serve", *self._fields(WatcherSpec, 4)]
        return "\n".join(lines)

    def _fields(self, cls: type, indent: int) -> list[str]:
        chance, lines = self._chance, []
        declared = declared_fields(cls)
        for field in chance.sample(declared, min(len(declared), chance.randint(1, 6))):
            block = next(
                (each for each in BLOCKS if each in {field.type, *get_args(field.type)}), None
            )
            if block is not None and chance.random() < 0.8:
                lines += [f"{' ' * indent}{field.name}:", *self._fields(block, indent + 2)]
            else:
                lines.append(f"{' ' * indent}{field.name}: {self._value()}")
        return lines

    def _value(self) -> str:
        chance = self._chance
        plain = (
            "1",
            "0",
            "5",
            "true",
            "null",
            "30s",
            "10MiB",
            "TERM",
            "022",
            "[a, b]",
            "{a: b}",
            "all",
            "http",
            "x.y",
            "50%",
        )
        if chance.random() < 0.7:
            return chance.choice(plain)
        # In quotes it gets past the parser, and is somebody's name or path.
        odd = chance.choice(ODD_TEXTS)
        return json.dumps(odd) if chance.random() < 0.8 else odd
