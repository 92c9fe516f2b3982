"""The method exec: what a command gets that runs in the place of a watcher's process."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from functools import partial

from reconciler.controller.api.request import Request
from reconciler.controller.api.selectors import Wanted, select
from reconciler.controller.runtime.config import Config
from reconciler.controller.specs.loader import environment as environ_of_manager
from reconciler.controller.specs.secrets import Secrets
from reconciler.core.reconciler import Reconciler
from reconciler.core.template import launch
from reconciler.model.answer import Surroundings
from reconciler.model.errors import RequestError
from reconciler.model.process import Launch, ProcessId
from reconciler.model.value import Part, replace
from reconciler.spawn.accounts import find_user
from reconciler.spawn.environment import Place, environment
from reconciler.spawn.launch_errors import LaunchFailed
from reconciler.system.procfs import umask
from reconciler.wire import methods


class ExecMethods(Part):
    """`exec`."""

    config: Config
    core: Reconciler
    secrets: Secrets

    def exec(self, request: Request, asked: methods.Exec) -> None:
        """Answer with what the process of a slot would be started with now, secrets and all.

        Only to who could read it from the processes themselves, and told as an event: that it was asked for.
        """
        if not request.permit.owns:
            hint = "it gives secrets away: only root and the user who started the manager may"
            raise request.denied(request.method, hint)
        id = self._slot(asked.name)
        what = launch(
            id.owner,
            self.core.spec.watchers[id.owner],
            id.slot,
            self.core.spec.sockets,
            self.core.facts,
        )
        give = partial(self._answer, request, id, what)
        self.secrets.give(id.owner, lambda values: request.guard(partial(give, values)))

    def _slot(self, written: str) -> ProcessId:
        """Return the one slot that is meant, the first where none is named. Raises `RequestError`."""
        found = select(self.core, Wanted((written,)), needed=True).slots
        name, slots = next(iter(found.items()))
        if len(found) > 1 or len(slots or ()) > 1:
            message = f"{written!r} means several watchers or slots; a command runs as one of them"
            raise RequestError(
                code="invalid_request", message=message, hint="write NAME or NAME.SLOT"
            )
        if name not in self.core.spec.watchers:
            message = f"{name} is being removed: no spec says any more what it runs in"
            raise RequestError(code="not_found", message=message)
        return ProcessId(name, slots[0] if slots else 1)

    def _answer(
        self, request: Request, id: ProcessId, what: Launch, values: Mapping[str, str] | str
    ) -> None:
        if isinstance(values, str):
            raise RequestError(code="conflict", message=values)
        given = replace(what, env={**what.env, **values}, sockets=())
        request.tell(f"runs a command in the place of {id}", id.owner, slot=id.slot)

        def answer(found: Surroundings | str) -> None:
            if isinstance(found, str):
                raise RequestError(code="conflict", message=found)
            request.reply(found)

        request.in_lane("names", partial(surroundings, self.config.name, id, given), answer)


def surroundings(instance: str, id: ProcessId, given: Launch) -> Surroundings | str:
    """Return what a process gets of this launch, with numbers for names; or why it could not be launched."""
    files, core = (
        resource.getrlimit(each) for each in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)
    )
    place = Place(instance, environ_of_manager(), umask(), files, core[0])
    try:
        user = find_user(given)
    except LaunchFailed as refused:
        return str(refused.error)
    env = environment(place, id, "", given, user)
    del env["RECONCILE_ID"]  # who has it counts as left by the slot, and ends with it
    return Surroundings(
        env,
        given.working_dir,
        place.umask if given.umask is None else given.umask,
        user.uid,
        user.gid,
        given.limits,
        files,
        core[0],
        given.nice,
        given.cpu_affinity,
        given.oom_score_adj,
    )
