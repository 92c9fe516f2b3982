"""What the programs of a history do, by its faults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from reconciler.model.process import LaunchError
from reconciler.model.spec import ReloadBySignal
from reconciler.model.units import MILLISECOND_NS as MS
from reconciler.model.units import SECOND_NS as S
from tests.contract.fake_kernel import Program

if TYPE_CHECKING:
    from reconciler.model.process import ProcessId
    from tests.sim.world import World

HOOK_TIMEOUT_NS = 4 * S
SHORTAGES = ("EAGAIN", "ENOMEM", "EMFILE", "ENFILE")
ASKING = frozenset({"TERM", "INT", "QUIT", "HUP"})
"""Signals by which people have processes asked to end."""
EXEC_ERRORS = ("ENOENT", "EACCES", "ENOEXEC", "ETXTBSY")


def program_of(world: World, id: ProcessId) -> Program:
    """Return how the next process of this name behaves."""
    if id.role != "main":
        return _hook(world)
    rng, hits, spared = world.rng, world.hits, id.owner == "bystander"
    spec = world.disk.spec.watchers.get(id.owner)
    forks = hits("fork road")
    if not spared and hits("exec errors"):
        return Program(error=LaunchError("exec", rng.choice(EXEC_ERRORS), "/gone"), forks=forks)
    asking = ASKING if "stop.signal" in world.faults.strength else frozenset({"TERM"})
    ignores = asking if hits("ignored TERM") else frozenset()
    if spec is not None and isinstance(spec.reload, ReloadBySignal) and rng.random() < 0.8:
        ignores |= {spec.reload.signal}  # it knows what that means
    ends_within = rng.randrange(3 * S) if hits("slow ends") else 0
    children: tuple[Program, ...] = ()
    if hits("survivors"):
        stubborn = rng.random() < 0.5
        children += (Program(ignores=frozenset({"TERM"}) if stubborn else frozenset()),)
    if hits("escaped survivors"):
        children += (Program(escapes=True),)
    lives, code = None, 0
    if spec is not None and spec.is_job:
        lives, code = rng.randrange(1, 6 * S), 0 if world.calm else rng.choice((0, 0, 3))
    elif not spared and hits("quick exits"):
        lives, code = rng.randrange(1, 200 * MS), rng.choice((0, 1))
    elif not spared and hits("exits"):
        lives, code = rng.randrange(1, 20 * S), rng.choice((0, 1))
    if lives is not None and code == 0:
        # It looks like one that goes into the background, and what it leaves may go on: not for ever.
        children = tuple(replace(each, lives_ns=lives + 30 * S) for each in children)
    program = Program(lives, code, ignores, ends_within, forks=forks, children=children)
    return program if spared else _nasty(world, program)


def _nasty(world: World, program: Program) -> Program:
    """Return a program as naive as those of users are."""
    if world.hits("late output"):
        program = replace(program, drains_ns=world.rng.randrange(3 * S))
    # A keeper that dies at once after a start knows what it has started by its mark alone.
    if "keeper kills" not in world.faults.strength and world.hits("wiped environments"):
        children = tuple(replace(each, wipes=True) for each in program.children)
        program = replace(program, wipes=True, children=children)
    return program


def _hook(world: World) -> Program:
    rng, hits = world.rng, world.hits
    children = (Program(ignores=frozenset({"TERM"})),) if hits("hook leftovers") else ()
    if hits("hanging hooks"):
        return Program(ignores=frozenset({"TERM"}), children=children)
    code = 100 if hits("hook vetoes") else 1 if hits("hook errors") else 0
    lives = rng.randrange(1, HOOK_TIMEOUT_NS - 1 if hits("slow hooks") else 300 * MS)
    return Program(lives, code, children=children)
