"""The files that watchers watch: looked at when a spec comes into force, and whenever something of them has changed.

Where something changes, all that belongs together is looked at once it has come to rest, and the core is told of
it. So no single change has to be noticed, and none is told that was undone. What is watched by several watchers is
looked at once. A tree that never rests is looked at now and then all the same.

The folders are watched by a thread of their own, beside that of the spec: a network file system among them has
all of these folders looked at once a second, and not those of the spec.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import Border
from reconciler.controller.runtime.file_watch import Wanted, Watch
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import READ, Reactor
from reconciler.controller.specs.trees import Tree, differences, ignored_by, look_at
from reconciler.model.event import Event
from reconciler.model.observation import FilesSeen, Observation
from reconciler.model.spec import Spec, WatchSpec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field, replace

STEP_MS: Final = 200
RESTLESS: Final = 10
"""Quiet periods after which a tree is looked at that has not been quiet for one."""
RETRY_NS: Final = 30 * SECOND_NS

Key = tuple[tuple[str, ...], tuple[str, ...]]
"""What is watched and what of it is ignored."""


class _Group(Part):
    """Watchers that watch the same, and how that looked last."""

    key: Key
    quiet_ns: int = 0
    names: frozenset[str] = frozenset()
    tree: Tree = field(default_factory=Tree)
    is_looking: bool = False
    is_dirty: bool = False
    """It has changed since the look began that is under way."""
    changing_since_ns: int | None = None
    told: set[str] = field(default_factory=set)
    """Who knows how it looks."""

    @property
    def patience_ns(self) -> int:
        """Return how long it may still be waited for that it comes to rest."""
        if self.changing_since_ns is None:
            return self.quiet_ns
        at_last_ns = self.changing_since_ns + RESTLESS * self.quiet_ns
        return max(at_last_ns - clock.now_ns(), 0)

    def unrested_ns(self, tree: Tree) -> int:
        """Return how much longer what was seen must rest before it counts; 0: it does, or nothing has changed."""
        if tree.trouble or self.tree.digest in {"", tree.digest}:
            return 0
        rested_ns = max(clock.wall_ns() - tree.changed_wall_ns, 0)
        return min(max(self.quiet_ns - rested_ns, 0), self.patience_ns)

    def concerns(self, path: str) -> bool:
        """Tell whether a change of a path, which its folder tells of, may be one of what is watched."""
        paths, ignore = self.key
        if path in self.tree.places:
            return True
        if os.path.dirname(path) not in self.tree.folders:
            return False
        root = next((each for each in paths if path.startswith(f"{each}/")), "")
        return not ignored_by(ignore).match(path[len(root) :])


class WatchedFiles(Part):
    """Looks at them, and tells the core when they look different."""

    reactor: Reactor
    lanes: Lanes
    border: Border
    feed: Callable[[Observation], None]
    tell: Callable[[Event], None]
    _groups: dict[Key, _Group] = field(default_factory=dict)
    _watch: Watch | None = None
    _polls: str = ""

    # ---- what others ask for ----

    @property
    def trouble(self) -> str:
        """Return in which way folders are watched when it is not the usual one."""
        return self._polls if self._groups else ""

    def follow(self, spec: Spec) -> None:
        """Watch from now on what the watchers of a spec watch."""
        wanted: dict[Key, list[tuple[str, WatchSpec]]] = {}
        for name, watcher in spec.watchers.items():
            if (watch := watcher.watch) is not None:
                wanted.setdefault((watch.paths, watch.ignore), []).append((name, watch))
        for key in self._groups.keys() - wanted.keys():
            self.reactor.at(self._groups.pop(key), None, lambda: None)
        for key, users in wanted.items():
            group = self._groups.setdefault(key, _Group(key))
            group.names = frozenset(name for name, _ in users)
            group.told &= group.names
            group.quiet_ns = max(watch.quiet_period for _, watch in users)
            if not group.names <= group.told:
                self._look(group)
        self._arm()

    def scan(self, name: str) -> None:
        """Tell the core how the files of a watcher look; it waits for that."""
        for group in self._groups.values():
            if name not in group.names:
                continue
            group.told.discard(name)
            if not group.is_looking:
                self._look(group)

    def close(self) -> None:
        """End the thread."""
        if self._watch is not None:
            self.reactor.ignore(self._watch)
            self._watch.close()
            self._watch = None
        for group in self._groups.values():
            self.reactor.at(group, None, lambda: None)
        self._groups = {}

    # ---- noticing ----

    def _arm(self) -> None:
        """Watch the folders of all that was seen."""
        if self._watch is None:
            if not self._groups:
                return
            self._watch = Watch(STEP_MS, self.lanes.hand_over, self._is_polling, self.border.report)
            self.reactor.watch(self._watch, READ, lambda _: self._woken())
        trees = [group.tree for group in self._groups.values()]
        roots = frozenset(path for paths, _ in self._groups for path in paths)
        files = frozenset(path for tree in trees for path in tree.places)
        around = frozenset(map(os.path.dirname, files))
        below = frozenset(folder for tree in trees for folder in tree.folders) - roots
        self._watch.want(Wanted(roots | around, files, below))

    def _is_polling(self, message: str) -> None:
        self._polls = message
        if message:
            self.tell(Event("files.watching", message))

    def _woken(self) -> None:
        assert self._watch is not None
        changed = self._watch.changed()
        for group in self._groups.values():
            if "" in changed or any(map(group.concerns, changed)):
                self._changed(group)

    def _changed(self, group: _Group) -> None:
        """Let it come to rest, but do not wait for that for ever."""
        if group.changing_since_ns is None:
            group.changing_since_ns = clock.now_ns()
        self._look_after(group, group.quiet_ns)

    def _look_after(self, group: _Group, wait_ns: int) -> None:
        due_ns = clock.now_ns() + min(wait_ns, group.patience_ns)
        self.reactor.at(group, due_ns, partial(self._look, group))

    # ---- looking ----

    def _look(self, group: _Group) -> None:
        """Look at a tree, off the loop: a disk may hang."""
        self.reactor.at(group, None, lambda: None)
        if group.is_looking:
            group.is_dirty = True
            return
        group.is_looking, group.is_dirty = True, False
        self.lanes.run(
            "trees",
            partial(look_at, *group.key),
            partial(self._seen, group),
            lambda said: self._seen(group, replace(group.tree, trouble=said)),
        )

    def _seen(self, group: _Group, tree: Tree) -> None:
        group.is_looking = False
        if self._groups.get(group.key) is not group:
            return  # nobody watches it any more
        before = group.tree
        wait_ns = group.unrested_ns(tree)
        if tree.trouble or wait_ns:  # what was known before stays so
            tree = replace(tree, digest=before.digest, entries=before.entries)
            if wait_ns:
                self._look_after(group, wait_ns)
            else:
                self._look_again(group)
        else:
            group.changing_since_ns = None
        group.tree = tree
        if (before.digest, before.trouble) != (tree.digest, tree.trouble):
            group.told = set()
        self._tell(group, before)
        if (before.folders, before.places) != (tree.folders, tree.places):
            self._arm()
        if group.is_dirty:
            self._changed(group)

    def _look_again(self, group: _Group) -> None:
        """Look again after a look in vain, in a while."""
        self.reactor.at(group, clock.now_ns() + RETRY_NS, partial(self._look, group))

    def _tell(self, group: _Group, before: Tree) -> None:
        """Tell the core how a tree looks, of each watcher of which it does not know that yet."""
        (paths, ignore), tree = group.key, group.tree
        changed: tuple[str, ...] = ()
        count = 0
        if before.digest and before.digest != tree.digest:
            changed, count = differences(before.entries, tree.entries)
        shown = tuple(_short(each, paths) for each in changed)
        digest = "" if tree.trouble else tree.digest
        for name in sorted(group.names - group.told):
            self.feed(FilesSeen(name, paths, ignore, digest, tree.trouble, shown, count))
        group.told = set(group.names)


def _short(path: str, roots: tuple[str, ...]) -> str:
    """Return a path as people know it: from what the spec names on."""
    root = next((each for each in roots if path == each or path.startswith(f"{each}/")), "")
    return f"{os.path.basename(root)}{path[len(root) :]}" if root else path
