"""What users and groups are called, as numbers: asked in the lane `names`, since the answer may come from a server.

The keeper gets numbers only. A socket whose file goes to somebody with a name reaches it once the name is known;
other sockets, and all else that the core wants, pass by meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reconciler.controller.runtime.borders import said
from reconciler.controller.runtime.lanes import Lanes
from reconciler.model.action import Bind, Unbind
from reconciler.model.socket import FileOwner
from reconciler.model.value import Part, field, replace
from reconciler.spawn.accounts import find_group, find_uid
from reconciler.spawn.launch_errors import LaunchFailed


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
