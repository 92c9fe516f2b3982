"""What users and groups are called, as numbers: asked in the lane `names`, since the answer may come from a server.

The keeper gets numbers only. What log files are owned by is a fact of the core's: until a name is known, the file is as
it was, and nothing waits. A socket whose file goes to somebody with a name reaches it once the name is known;
other sockets, and all else that the core wants, pass by meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from reconciler.controller.runtime import clock
from reconciler.controller.runtime.borders import said
from reconciler.controller.runtime.lanes import Lanes
from reconciler.controller.runtime.reactor import Reactor
from reconciler.model.action import Bind, Unbind
from reconciler.model.event import Event
from reconciler.model.observation import AccountsFound
from reconciler.model.socket import FileOwner
from reconciler.model.spec import Spec
from reconciler.model.units import SECOND_NS
from reconciler.model.value import Part, field, replace
from reconciler.spawn.accounts import find_group, find_uid
from reconciler.spawn.launch_errors import LaunchFailed

AGAIN_NS: Final = 60 * SECOND_NS
"""When a name that nobody has is looked up once more: a directory service comes up after us."""


class SocketOwners(Part):
    """Sockets on their way to the keeper, until it is known whose files they become."""

    lanes: Lanes
    send: Callable[[Bind], None]
    _asked: dict[str, Bind] = field(default_factory=dict)

    def ready(self, action: Bind | Unbind) -> Bind | Unbind | None:
        """Return what may go to the keeper now; None: it is sent later, unless another action replaces it."""
        self._asked.pop(action.name, None)
        if not isinstance(action, Bind):
            return action
        owner, group = action.template.owner, action.template.group
        if not (_is_name(owner) or _is_name(group)):
            return replace(action, owner=_file_owner(owner, group))
        self._asked[action.name] = action
        self.lanes.run(
            "names",
            partial(_file_owner, owner, group),
            partial(self._go_on, action),
            lambda why: self._go_on(action, _nobody(why)),
        )
        return None

    def _go_on(self, action: Bind, owner: FileOwner) -> None:
        if self._asked.get(action.name) is action:
            del self._asked[action.name]
            self.send(replace(action, owner=owner))


class LogOwners(Part):
    """The users and groups whom the spec in force names as owners of log files; `feed` is given their numbers."""

    lanes: Lanes
    reactor: Reactor
    feed: Callable[[AccountsFound], None]
    tell: Callable[[Event], None]
    _wanted: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    _found: AccountsFound = AccountsFound({}, {})
    _told: frozenset[str] = frozenset()
    """Why names have no number, as people were told last."""

    def follow(self, spec: Spec) -> None:
        """Look up whom a spec names, also those who were found before: accounts change."""
        logs = [each.logs for each in spec.watchers.values()]
        owners, groups = {each.owner for each in logs}, {each.group for each in logs}
        self._wanted = (_names(owners), _names(groups))
        self._look_up()

    def _look_up(self) -> None:
        self.reactor.at(self, None, self._look_up)
        users, groups = wanted = self._wanted
        if users or groups or self._found != AccountsFound({}, {}):
            self.lanes.run(
                "names",
                lambda: (_numbers(users, find_uid), _numbers(groups, find_group)),
                lambda found: self._take(*found),
                lambda why: self._again(frozenset((why,))),
                is_wanted=lambda: self._wanted is wanted,
            )

    def _take(
        self, users: tuple[dict[str, int], set[str]], groups: tuple[dict[str, int], set[str]]
    ) -> None:
        found = AccountsFound(users[0], groups[0])
        if found != self._found:
            self._found = found
            self.feed(found)
        self._again(frozenset(users[1] | groups[1]))

    def _again(self, problems: frozenset[str]) -> None:
        for each in sorted(problems - self._told):
            self.tell(Event("logs.owner_unknown", f"log files keep their owner: {each}"))
        self._told = problems
        if problems:
            self.reactor.at(self, clock.now_ns() + AGAIN_NS, self._look_up)


def _names(accounts: Iterable[str | int | None]) -> frozenset[str]:
    return frozenset(each for each in accounts if isinstance(each, str) and not each.isdecimal())


def _numbers(names: Iterable[str], find: Callable[[str], int]) -> tuple[dict[str, int], set[str]]:
    """Return the numbers of those who have one, and why the others have none. It may wait."""
    found, problems = {}, set()
    for name in sorted(names):
        try:
            found[name] = find(name)
        except LaunchFailed as error:
            problems.add(str(error))
        except OSError as error:
            problems.add(f"cannot look up {name}: {said(error)}")
    return found, problems


def _file_owner(user: str | int | None, group: str | int | None) -> FileOwner:
    """Return whose a file becomes. With a name it may wait."""
    try:
        return FileOwner(
            -1 if user is None else find_uid(user), -1 if group is None else find_group(group)
        )
    except LaunchFailed as error:
        return FileOwner(problem=str(error))
    except OSError as error:
        return _nobody(said(error))


def _nobody(why: str) -> FileOwner:
    return FileOwner(problem=f"cannot look up its owner or group: {why}")


def _is_name(account: str | int | None) -> bool:
    return isinstance(account, str) and not account.isdecimal()
