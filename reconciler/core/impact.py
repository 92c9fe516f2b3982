"""What a change of a plan means meanwhile: how many slots go on, which sockets stay open, who waits for whom.

By the specs and the other changes of the same plan: what is not changed by it is not waited for here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from reconciler.core import desired, sockets
from reconciler.core.dependencies import TO
from reconciler.core.graph import Graph, graph_of
from reconciler.core.template import sockets_of
from reconciler.model.change import Change
from reconciler.model.observed import WatcherObserved
from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.units import format_count, format_duration, format_few
from reconciler.model.value import Struct, replace

MAX_NAMED: Final = 5
_STARTS: Final = frozenset({"create", "fire", "replace"})


class _Plan(Struct, frozen=True):
    """Both specs, and what becomes of each watcher that is started, fired or replaced."""

    old: Spec
    new: Spec
    observed: Callable[[str], WatcherObserved]
    starts: Mapping[str, Change]
    graph: Graph


def with_impact(
    changes: Sequence[Change],
    old: Spec,
    new: Spec,
    observed: Callable[[str], WatcherObserved],
) -> tuple[Change, ...]:
    """Return the changes from one spec to another, each with its impact."""
    starts = {
        each.name: each
        for each in changes
        if each.kind == "watcher" and each.how in _STARTS and each.slots
    }
    if not starts:
        return tuple(changes)
    plan = _Plan(old, new, observed, starts, graph_of(new.watchers))
    return tuple(
        replace(each, impact="; ".join(_impact(plan, each)))
        if starts.get(each.name) is each
        else each
        for each in changes
    )


def _impact(plan: _Plan, change: Change) -> Iterator[str]:
    spec = plan.new.watchers[change.name]
    firsts = [f"{name} {to}" for name, to in _waits_for(plan, spec)]
    if firsts:
        yield f"waits for {format_few(firsts, MAX_NAMED)}"
    if change.how == "replace":
        yield from _meanwhile(plan, change, spec)
    later = [name for name in plan.graph.dependents.get(change.name, ()) if name in plan.starts]
    if later:
        yield f"{format_few(later, MAX_NAMED)} {'wait' if len(later) > 1 else 'waits'} for it"
    followers = _followers(plan, change.name) if change.how == "replace" else []
    if followers:
        verb = "are" if len(followers) > 1 else "is"
        yield f"then {format_few(followers, MAX_NAMED)} {verb} replaced, too (on_restart: restart)"


def _waits_for(plan: _Plan, spec: WatcherSpec) -> Iterator[tuple[str, str]]:
    """Yield which of those that are started, fired or replaced by the same plan come first, and to what."""
    for name, each in spec.dependencies.items():
        if name in plan.starts:
            assert each.condition is not None
            yield name, TO[each.condition]


def _meanwhile(plan: _Plan, change: Change, spec: WatcherSpec) -> Iterator[str]:
    """Yield how many slots go on while others are replaced, and which sockets take clients all the while."""
    want = desired.wanted(spec, plan.observed(change.name).intent)
    left = want - min(desired.max_unavailable(spec, want), len(change.slots))
    yield f"{left} of {want} slots run meanwhile" if left else "none of its slots runs meanwhile"
    beyond = min(desired.max_surge(spec, want), len(change.slots))
    if beyond:
        yield f"up to {format_count(beyond, 'more slot')} {'run' if beyond > 1 else 'runs'} besides"
    if len(change.slots) > 1 and spec.rollout.pause:
        yield f"a pause of {format_duration(spec.rollout.pause)} after each"
    opened = [name for name in dict.fromkeys(sockets_of(spec)) if _stays_open(plan, name)]
    if opened:
        noun, verb = ("sockets", "stay") if len(opened) > 1 else ("socket", "stays")
        yield f"{noun} {format_few(opened, MAX_NAMED)} {verb} open"


def _stays_open(plan: _Plan, name: str) -> bool:
    """Tell whether a socket is the same before and after, and no slot's own."""
    before, after = plan.old.sockets.get(name), plan.new.sockets[name]
    if before is None or after.reuseport:
        return False
    return sockets.template_of(before).identity == sockets.template_of(after).identity


def _followers(plan: _Plan, name: str) -> list[str]:
    """Return who is replaced for no other reason than that this one was, nearest first."""
    found: dict[str, None] = {}
    todo = [name]
    for each in todo:  # it grows as we go
        for other in plan.graph.followers.get(each, ()):
            runs = bool(plan.observed(other).running) and not plan.new.watchers[other].is_job
            if runs and other not in found and other not in plan.starts:
                found[other] = None
                todo.append(other)
    return list(found)
