"""What applying a spec would do, and why: `reconcile plan`, made from the declared effects alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reconciler.core import desired, generations, secrets, status
from reconciler.core.notation import shown, shown_variable
from reconciler.core.template import restarting, run_hash, same_template, sockets_of, with_secrets
from reconciler.model.change import Change, Drift, FieldChange, How
from reconciler.model.hiding import HIDDEN
from reconciler.model.job import Generation, Job, Run
from reconciler.model.observed import Facts, WatcherObserved
from reconciler.model.process import ProcessId
from reconciler.model.spec import (
    Effect,
    Environment,
    SecretSpec,
    Spec,
    WatcherSpec,
    declared_fields,
)
from reconciler.model.units import (
    format_count,
)
from reconciler.model.value import Struct, replace


def changes(
    old: Spec, new: Spec, observed: Callable[[str], WatcherObserved], facts: Facts
) -> tuple[Change, ...]:
    """Return what applying `new` over `old` does, watcher by watcher and socket by socket."""
    found = list(_socket_changes(old, new))
    same_sockets = old.sockets == new.sockets
    for name, spec in new.watchers.items():
        before = old.watchers.get(name)
        if before is spec and same_sockets:
            continue  # as most watchers of most edits are
        if before is None:
            found.append(_created(name, new, observed(name), facts))
        elif not (same_sockets and is_alike(before, spec)):
            found.extend(_edited(name, old, new, observed(name), facts))
    for name in old.watchers:
        if name not in new.watchers:
            slots = observed(name).running
            what = f"stops {format_count(len(slots), 'process')}" if slots else "nothing runs"
            found.append(Change("watcher", name, "remove", f"removed: {what}", slots))
    for kind in ("daemon", "apply"):
        fields = tuple(_differences(getattr(old, kind), getattr(new, kind), ""))
        if fields:
            found.append(Change(kind, kind, "none", _when(fields), (), fields))
    return tuple(found)


def come_about(spec: Spec, facts: Facts) -> Callable[[str], WatcherObserved]:
    """Return the picture in which a spec's jobs have run: what differs from it is what an edit brings about."""

    def observed(name: str) -> WatcherObserved:
        watcher = spec.watchers.get(name)
        if watcher is None or not watcher.is_job:
            return WatcherObserved()
        ids = facts.keeper_id, facts.boot_id
        made = run_hash(watcher, spec.sockets)
        generation = Generation(1, made, "first", facts.boot_id, facts.keeper_id)
        slots = range(1, watcher.numprocesses + 1)
        runs = {slot: Run(slot, 1, *ids, 0, outcome="succeeded") for slot in slots}
        return WatcherObserved(job=Job(generation, runs))

    return observed


def is_alike(before: WatcherSpec | None, after: WatcherSpec | None) -> bool:
    """Tell whether two watchers are equal; of a spec that was read again most are the very same."""
    return before is after or before == after


def _when(fields: tuple[FieldChange, ...]) -> str:
    """Return which fields of the manager itself count when."""
    now = tuple(f for f in fields if f.effect == "live")
    later = tuple(f for f in fields if f.effect != "live")
    said = ((now, "in place"), (later, "takes effect at the manager's next start"))
    return "; ".join(f"{_names(which)} changed: {when}" for which, when in said if which)


def drift(
    spec: Spec, observed: Callable[[str], WatcherObserved], wall_offset_ns: int
) -> tuple[Drift, ...]:
    """Return what stays otherwise than a spec says when it is applied: the operators' words."""
    found = []
    for name, watcher in spec.watchers.items():
        intent = observed(name).intent
        if status.drifts(watcher, intent):
            found.append(Drift(name, status.overrides(watcher, intent, wall_offset_ns)))
    return tuple(found)


def _created(name: str, new: Spec, observed: WatcherObserved, facts: Facts) -> Change:
    spec = new.watchers[name]
    want = desired.wanted(spec, observed.intent)
    if spec.is_job:
        slots = _fired(name, new, observed, facts)
        if slots:
            message = f"new job: fires {format_count(len(slots), 'process')}"
            return Change("watcher", name, "fire", message, slots)
        why = generations.why_not_fired(name, spec, observed, _job_hash(spec, new, observed))
        return Change("watcher", name, "create", f"new job: fires nothing, {why}")
    if not want:
        why = desired.why_idle(name, spec, observed.intent)
        return Change("watcher", name, "create", f"new: starts nothing, {why}")
    slots = tuple(range(1, want + 1))
    message = f"new: starts {format_count(want, 'process')}"
    if spec.numprocesses_formula and want == spec.numprocesses:
        message += f" ({spec.processes_text})"
    return Change("watcher", name, "create", message, slots)


def _job_hash(spec: WatcherSpec, new: Spec, observed: WatcherObserved) -> str:
    read = secrets.known(observed.secrets, spec.secrets)
    return with_secrets(run_hash(spec, new.sockets), read.digest)


def _fired(name: str, new: Spec, observed: WatcherObserved, facts: Facts) -> tuple[int, ...]:
    """Return the slots of a job that applying a spec fires, at once or when their present run has ended."""
    spec = new.watchers[name]
    if spec.waits_for_schedule:
        return ()
    base_hash = _job_hash(spec, new, observed)
    due = generations.due_slots(name, spec, observed, base_hash, facts)
    running = ((slot, observed.records[ProcessId(name, slot)]) for slot in observed.running)
    # What was started while it was a service counts as the run.
    counted = {
        slot
        for slot, record in running
        if not record.memory.generation and same_template(record.template_hash, base_hash)
    }
    return tuple(slot for slot in due if slot not in counted)


class _Edit(Struct, frozen=True):
    """A watcher that stands in both specs, and differs."""

    name: str
    before: WatcherSpec
    after: WatcherSpec
    observed: WatcherObserved
    reason: str
    replaced: bool
    """Its processes are not what the new spec makes any more."""

    def kept(self) -> tuple[How, str, tuple[int, ...]]:
        """Return that its processes go on as they are."""
        return "live", f"{self.reason} changed: in place", ()


def _edited(
    name: str, old: Spec, new: Spec, observed: WatcherObserved, facts: Facts
) -> Iterator[Change]:
    before, after = old.watchers[name], new.watchers[name]
    fields = tuple(_differences(before, after, ""))
    replaced = run_hash(before, old.sockets) != run_hash(after, new.sockets)
    if not fields and not replaced:
        return
    restarting = tuple(f for f in fields if f.effect == "restart")
    reason = _names(restarting or fields if replaced else fields)
    if replaced and not fields:
        rebound = [s for s in sockets_of(after) if old.sockets.get(s) != new.sockets[s]]
        reason = f"socket {', '.join(rebound)}"
    edit = _Edit(name, before, after, observed, reason, replaced)
    how, message, slots = _effect_on_job(edit, new, facts) if after.is_job else _effect(edit)
    if how == "live" and all(f.effect == "none" for f in fields):
        how, message = "none", f"{reason} changed: nothing runs differently"
    yield Change("watcher", name, how, message, slots, fields)


def _effect(it: _Edit) -> tuple[How, str, tuple[int, ...]]:
    """Return how an edit of a service is carried out, that in words with its reason, and the slots it replaces."""
    live, intent = it.observed.running, it.observed.intent
    # What a job has still running goes on as it is; what it does not, is started.
    runs = len(live) if it.before.is_job else desired.wanted(it.before, intent)
    want = desired.wanted(it.after, intent)
    scaled = f"{runs} -> {want} processes"
    if not want and not live:
        idle = desired.why_idle(it.name, it.after, intent)
        return "none", f"{it.reason} changed: nothing runs, {idle}", ()
    if not it.replaced or not want:
        return ("scale", scaled, ()) if runs != want else it.kept()
    slots = tuple(slot for slot in live if slot <= want)
    # Where nothing runs it is about what would: two revisions are compared.
    count = len(slots) if live else min(runs, want)
    how = desired.pace(it.after, want) if count > 1 else "now"
    more = f"; {scaled}" if runs != want else ""
    return "replace", f"replaced {how}: {it.reason} changed{more}", slots


def _effect_on_job(it: _Edit, new: Spec, facts: Facts) -> tuple[How, str, tuple[int, ...]]:
    """Return how an edit of a job is carried out, that in words with its reason, and the slots it fires."""
    live, fired = it.observed.running, _fired(it.name, new, it.observed, facts)
    want = desired.wanted(it.after, it.observed.intent)
    surplus = [slot for slot in live if slot > want]
    if fired:
        verb = "fires again" if it.observed.job.generation is not None else "fires"
        busy = sorted({*fired} & {*live})
        waits = f"; slot {', '.join(map(str, busy))} when its run has ended" if busy else ""
        count = format_count(len(fired), "process")
        return "fire", f"{verb} {count}: {it.reason} changed{waits}", fired
    if surplus:
        return "scale", f"stops slot {', '.join(map(str, surplus))}: {it.reason} changed", ()
    if it.replaced and it.before.is_job:
        base_hash = _job_hash(it.after, new, it.observed)
        why = generations.why_not_fired(it.name, it.after, it.observed, base_hash)
        return "none", f"{it.reason} changed: not fired, {why}", ()
    return it.kept()


def _names(fields: tuple[FieldChange, ...]) -> str:
    return ", ".join(f.field for f in fields) or "sockets"


def _socket_changes(old: Spec, new: Spec) -> Iterator[Change]:
    for name, spec in new.sockets.items():
        if name not in old.sockets:
            yield Change("socket", name, "bind", f"new: binds {spec.listen}")
            continue
        fields = tuple(_differences(old.sockets[name], spec, ""))
        effects, message = {f.effect for f in fields}, f"{_names(fields)} changed"
        how: How = "live"
        if "rebind" in effects:
            how, message = "rebind", f"bind again: {message}"
        elif "restart" in effects:
            message += ": counts for processes that are started from now on"
        else:
            message += ": in place"
        if fields:
            yield Change("socket", name, how, message, (), fields)
    for name in old.sockets:
        if name not in new.sockets:
            yield Change("socket", name, "unbind", "removed: closed")


def _differences(old: Struct, new: Struct, prefix: str) -> Iterator[FieldChange]:
    """Yield the fields that differ, down to the innermost blocks of the same kind."""
    for declared in declared_fields(type(new)):
        before, after = getattr(old, declared.attribute), getattr(new, declared.attribute)
        path = f"{prefix}{declared.name}"
        if declared.name == "numprocesses" and isinstance(old, WatcherSpec):
            assert isinstance(new, WatcherSpec)
            if old.processes_text != new.processes_text:
                effect = declared.about.effect
                yield FieldChange(path, effect, old.processes_text, new.processes_text)
            continue
        if before == after:
            continue
        is_one = declared.name == "listen"  # for people, though it has parts
        if isinstance(after, Struct) and type(before) is type(after) and not is_one:
            yield from _differences(before, after, f"{path}.")
        elif declared.name == "secrets":
            yield from _secret_differences(path, declared.about.effect, before, after)
        elif declared.name == "env":
            yield from _env_differences(path, declared.about.effect, before, after)
        else:
            effect = declared.about.effect
            if restarting(before) != restarting(after):  # of a block that comes or goes
                effect = "restart"
            yield FieldChange(path, effect, shown(declared, before), shown(declared, after))


def _secret_differences(
    path: str, effect: Effect, old: Mapping[str, SecretSpec], new: Mapping[str, SecretSpec]
) -> Iterator[FieldChange]:
    """Yield what differs, by the name of the secret; where a value comes from is hidden, times are not."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before is None or after is None:
            words = ["(unset)" if each is None else HIDDEN for each in (before, after)]
            yield FieldChange(f"{path}.{key}", effect, words[0], words[1])
            continue
        for each in _differences(before, after, f"{path}.{key}."):
            is_time = each.field.endswith((".timeout", ".refresh"))
            yield each if is_time else replace(each, old=HIDDEN, new=HIDDEN)


def _env_differences(
    path: str, effect: Effect, old: Environment, new: Environment
) -> Iterator[FieldChange]:
    for key in sorted(old.keys() | new.keys()):
        if (key in old, old.get(key)) != (key in new, new.get(key)):
            values = [shown_variable(key, side) for side in (old, new)]
            yield FieldChange(f"{path}.{key}", effect, values[0], values[1])


# ---- the guard against mass removal ---------------------------------------------------------------


def removal_refused(old: Spec, new: Spec, observed: Callable[[str], WatcherObserved]) -> str | None:
    """Return why an edit removes too much to be applied unasked, or None.

    Counts watchers that run; acts from two removals on (decision: one is an ordinary edit). A spec without
    any watcher where there were some is rather an empty file or a lost one than an edit.
    """
    if old.watchers and not new.watchers:
        return "the files hold no watchers at all any more"
    gone = [name for name in old.watchers if name not in new.watchers]
    if len(gone) < 2:
        return None
    running = [name for name in old.watchers if observed(name).running]
    removed = [name for name in gone if observed(name).running]
    if len(removed) < 2 or len(removed) * 100 <= len(running) * new.apply.max_removal:
        return None
    return (
        f"the edit removes {len(removed)} of {len(running)} running watchers ({', '.join(removed[:5])}"
        f"{', ...' if len(removed) > 5 else ''}), more than apply.max_removal {new.apply.max_removal}% allows"
    )
