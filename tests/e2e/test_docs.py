"""What the README and the guide tell people to write and to type is written and typed, and does as told.

A fenced block says by its first words what it is:

    ```yaml FOLDER/FILE      a whole spec: validated, and saved for the commands that follow
    ```python FOLDER/FILE    saved (as any language with a path is)
    ```console FOLDER        `$ ` commands, run there in order; below each the lines that it shows

Of the output, the lines shown must come in their order; others may stand between them. Durations, process
ids and times of day may differ, `…` is any text, and `/home/you` the scratch folder. `# exit 3` behind a
command is its exit code. A command that only looks is repeated until it shows what the page shows. One that
stays in the foreground goes on while later commands run; `^C` on a line of its own ends it. Ports are
replaced by free ones.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import require_program
from tests.e2e.stage import PATIENCE_S, RECONCILE, ROOT, Stage, free_port, is_alive, until

pytestmark = pytest.mark.e2e

PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "docs/README.md", *sorted(ROOT.glob("docs/guide/*.md")))
    if path.exists()
]
FENCE = re.compile(r"^```(?P<words>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
PORT = re.compile(r"\b8\d{3}\b")
LOOKS = re.compile(
    r"(reconcile (status|logs|events|runs|plan|ls|validate|explain)|curl|cat|tail|grep)\b"
)
STAYS = re.compile(r"make run|reconcile (up|run)\b(?!.* (-d|--detach|--help)\b)")
# In this order: the number of an event, a date with a time, a time of day, a duration, a process id
# or another large number.
VARIES = re.compile(
    r"^\d+(?= +\d{4}-)|"
    r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?|\d\d:\d\d:\d\d(\.\d+)?|\b(\d+(\.\d+)?(ns|us|ms|s|m|h|d))+\b|(?<![:.\d])\d{3,}\b"
)

# How far the trial of a revision has come depends on how fast the machine is.
STANDING = re.compile(r"(?<=\d) \((([0-9a-f]{7}|…)(-dirty)?, )?(pending|good)\)(?= ·)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the path behind it, its text and the line where it begins."""

    language: str
    path: str
    text: str
    line: int


@dataclass
class Command:
    """A command of a console block, and what the page shows below it."""

    text: str
    code: int = 0
    shown: list[str] = field(default_factory=list)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, _, path = match["words"].partition(" ")
        yield Block(language, path, match["text"], text.count("\n", 0, match.start()) + 1)


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            typed, _, code = line[2:].partition("  # exit ")
            found.append(Command(typed, int(code.split(":")[0] or 0) if code else 0))
        elif line.startswith("> "):
            found[-1].text += "\n" + line[2:]
        elif line == "^C":
            found.append(Command("^C"))
        elif line.strip():
            found[-1].shown.append(line.strip())
    return found


def pattern(shown: str) -> re.Pattern[str]:
    """Return what a line must be like to be the line that is shown."""
    parts, end = [], 0
    for match in VARIES.finditer(shown):
        parts += [_literal(shown[end : match.start()]), r"[\dTZnumshd:. -]+?"]
        end = match.end()
    return re.compile("".join([*parts, _literal(shown[end:])]))


def _literal(text: str) -> str:
    return re.sub(r"(\\\s)+", r"\\s+", re.escape(text)).replace("…", ".*")


def missing(shown: list[str], output: str) -> str | None:
    """Return the first shown line that does not come in its order; None when all do."""
    lines = iter(STANDING.sub("", output).splitlines())
    for line in shown:
        wanted = pattern(STANDING.sub("", line))
        if line != "…" and not any(wanted.fullmatch(each.strip()) for each in lines):
            return line
    return None


class Desk:
    """A folder in which a reader follows a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages: dict[str, Stage] = {}
        self.ports: dict[str, str] = {}

    def local(self, text: str) -> str:
        """Return a text with ports that are free on this machine."""
        return PORT.sub(lambda m: self.ports.setdefault(m[0], str(free_port())), text)

    def save(self, path: str, text: str) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(self.local(text))

    def at(self, folder: str) -> Stage:
        """Return the instance of a folder; it is kept apart from those of the machine."""
        if folder not in self.stages:
            place = self.folder / folder
            place.mkdir(parents=True, exist_ok=True)
            stage = self.stages[folder] = Stage(place, {})
            # A message names an instance after this folder when it cannot ask.
            stage.runtime_dir = self.folder / ".run" / (Path(folder).name or "demo")
            stage.state_dir = self.folder / f".state-{len(self.stages)}"
            stage.output = self.folder / f".output-{len(self.stages)}"
            stage.environ |= {
                "RECONCILE_RUNTIME_DIR": str(stage.runtime_dir),
                "RECONCILE_STATE_DIR": str(stage.state_dir),
                "PATH": f"{Path(RECONCILE).parent}:{os.environ['PATH']}",
                "HOME": str(self.folder),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "a reader",
                "GIT_AUTHOR_EMAIL": "reader@example.org",
                "GIT_COMMITTER_NAME": "a reader",
                "GIT_COMMITTER_EMAIL": "reader@example.org",
            }
        return self.stages[folder]

    def type(self, folder: str, command: Command) -> None:
        """Run a command and check what it shows."""
        it = self.at(folder)
        home, name = str(self.folder), getpass.getuser()
        shown = [
            self.local(line).replace("/home/you", home).replace("by root", f"by {name}")
            for line in command.shown
        ]
        if command.text == "^C":
            interrupt(it)
        elif STAYS.match(command.text):
            self.leave_running(it, command)
            until(
                lambda: missing(shown, it.output.read_text()) is None,
                f"{command.text} shows {shown}",
                show=it.output.read_text,
            )
        elif LOOKS.match(command.text):
            until(
                lambda: self.differs(it, command, shown) is None,
                f"{command.text} shows {shown}",
                show=lambda: self.differs(it, command, shown),
                every_s=0.2,
            )
        else:
            difference = self.differs(it, command, shown)
            assert difference is None, difference

    def leave_running(self, it: Stage, command: Command) -> None:
        """Start a command that stays in the foreground, as in a terminal of its own."""
        assert it.foreground is None, f"{command.text}: another still runs there"
        with it.output.open("wb") as output:
            it.foreground = subprocess.Popen(
                ["sh", "-c", f"exec {self.local(command.text)}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=it.folder,
                env=it.environ,
                start_new_session=True,
            )
        it._remember(it.foreground.pid)

    def differs(self, it: Stage, command: Command, shown: list[str]) -> str | None:
        """Run a command; return how what it does differs from what the page says, or None."""
        typed = self.local(command.text)
        if typed == "make test":  # these tests are a part of it
            typed = "make -n test"
        done = subprocess.run(
            ["bash", "-c", typed],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=it.folder,
            env=it.environ,
            timeout=2 * PATIENCE_S,
            check=False,
        )
        it.answers()  # takes note of the processes, for the end
        if done.returncode != command.code:
            return f"{typed}: exit {done.returncode}, not {command.code}\n{done.stdout}"
        lacking = missing(shown, done.stdout)
        return lacking and f"{typed}: does not show\n{lacking}\nbut\n{done.stdout}"


def interrupt(it: Stage) -> None:
    """Press Ctrl-C, which a terminal sends to all programs in front; everything stops in order."""
    assert it.foreground is not None
    born = it.processes()
    os.killpg(it.foreground.pid, signal.SIGINT)
    code = it.foreground.wait(PATIENCE_S)
    # make ends itself by the signal once what it started has ended.
    assert code in {0, -signal.SIGINT}, f"exit {code}\n{it.output.read_text()}"
    until(lambda: not any(map(is_alive, born)), "what was started has ended", within_s=5)
    it.foreground = None


@contextlib.contextmanager
def desk() -> Iterator[Desk]:
    """Give a copy of what a checkout has, set up as `make` does; nothing is left of it or what it started."""
    with tempfile.TemporaryDirectory(prefix="rec-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        it = Desk(folder)
        for each in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / each, folder)
        for path in (path for path in (ROOT / "specs").iterdir() if path.is_file()):
            it.save(f"specs/{path.name}", path.read_text())
        tools = folder / ".venv/bin"
        tools.mkdir(parents=True)
        (tools / "reconcile").symlink_to(RECONCILE)
        (tools / "python").symlink_to(sys.executable)
        (folder / ".venv/made").write_text(f"{folder.resolve()}\n")
        for each in ("run", "dev"):
            (folder / ".venv" / each).touch()
        try:
            yield it
        except BaseException:
            for stage in it.stages.values():
                stage.tell()
            raise
        finally:
            with contextlib.ExitStack() as leaving:
                for stage in it.stages.values():
                    leaving.callback(stage.clear)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_as_it_says(page: Path) -> None:
    for program in ("bash", "curl", "make", "git"):
        require_program(program, f"apt install {program}")
    with desk() as it:
        for block in blocks(page):
            if block.path and block.language != "console":
                it.save(block.path, block.text)
            if block.language == "yaml":
                path = block.path or f"unnamed/line-{block.line}/reconcile.yaml"
                it.save(path, block.text)
                it.at(".").run("validate", path)
            if block.language == "console":
                for command in commands(block.text):
                    print(f"{page.name}:{block.line}: {command.text}")
                    it.type(block.path or ".", command)
        for stage in it.stages.values():
            if stage.foreground is not None:
                interrupt(stage)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language, f"{page.name}:{block.line}: a block without a language"


def test_a_line_that_is_shown_has_to_come() -> None:
    output = "web  2  Running  2/2  0  12s\nticker.1 started, pid 77123\n"
    assert missing(["web 2 Running 2/2 0 1m3s", "ticker.1 started, pid 123"], output) is None
    assert missing(["web 2 Running 1/2 0 1s"], output) == "web 2 Running 1/2 0 1s"
    assert missing(["ticker.1 started, pid 123", "web …"], output) == "web …"
