"""When a file that became shorter may be believed.

A writer that crashed, or a disk that filled up, leaves the beginning of a file. Read as a spec it says
"delete the rest". So a file that in place (same inode) became a proper prefix of what was applied is
suspicious. It must rest for a while; then it counts as a deletion when it ends with a whole line and
nothing but whole entries are gone from the spec. Everything else is held until the file changes again
or an operator consents. A file replaced by rename was complete before it got its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from reconciler.model.spec import Spec
from reconciler.model.units import SECOND_NS

STABLE_NS: Final = 2 * SECOND_NS

Verdict: TypeAlias = Literal["complete", "wait", "cut", "maybe"]
"""`wait` for it to rest; `cut` in the middle; `maybe` a deletion, `only_whole_entries_gone` decides."""


def judge(
    before: bytes | None, before_inode: int, after: bytes, after_inode: int, rest_ns: int
) -> Verdict:
    """Return what to think of a file's bytes now, given those that were applied.

    `before` None: nobody knows what was applied. `rest_ns`: for how long the file has not changed.
    """
    if before is None or before_inode != after_inode:
        return "complete"
    if len(after) >= len(before) or not before.startswith(after):
        return "complete"
    if rest_ns < STABLE_NS:
        return "wait"
    return "maybe" if after.endswith(b"\n") else "cut"


def only_whole_entries_gone(old: Spec, new: Spec) -> bool:
    """Tell whether the new spec is the old one without some of its watchers and sockets."""
    return (
        _is_part_of(new.watchers, old.watchers)
        and _is_part_of(new.sockets, old.sockets)
        and (new.daemon, new.apply) == (old.daemon, old.apply)
    )


def _is_part_of(part: Mapping[str, object], whole: Mapping[str, object]) -> bool:
    return all(name in whole and whole[name] == value for name, value in part.items())
