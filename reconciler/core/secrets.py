"""Secrets gate starts: a process waits until the values that it shall get are at hand.

The core never sees a value, only a keyed hash of all values of a watcher, which becomes part of what its
processes are made of: other values, other processes. The values live in the controller, so a new one has
none; as long as everything runs as it should it needs none either, and nothing is read. What cannot be read
keeps starts waiting and touches nothing that runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reconciler.core.backoff import doubled_ns
from reconciler.model.action import ReadSecrets
from reconciler.model.event import Event
from reconciler.model.observed import SecretsObserved
from reconciler.model.units import SECOND_NS
from reconciler.model.value import replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.core.plan import Plan
    from reconciler.model.observation import SecretsRead, SecretsUnreadable
    from reconciler.model.observed import WatcherObserved

FIRST_RETRY_NS: Final = SECOND_NS
LAST_RETRY_NS: Final = 30 * SECOND_NS
"""A secret that cannot be read is tried again: a vault comes back, a file is mounted."""


def ready(plan: Plan) -> bool:
    """Tell whether the values that a process needs are at hand; asks for them when they are not."""
    secrets = plan.observed.secrets
    if not plan.spec.secrets or secrets.digest:
        return True
    asked = secrets.asked or ReadSecrets(plan.name) in plan.actions
    if not asked and (not secrets.trouble or plan.is_due(retry_due_ns(secrets))):
        plan.act(ReadSecrets(plan.name))
    return False


def retry_due_ns(secrets: SecretsObserved) -> int:
    """Return when to try again after what was tried in vain."""
    return secrets.at_ns + doubled_ns(FIRST_RETRY_NS, LAST_RETRY_NS, secrets.attempt)


def waiting_note(plan: Plan) -> str:
    """Return why a start waits for secrets; empty when it does not."""
    secrets = plan.observed.secrets
    if not plan.spec.secrets or secrets.digest:
        return ""
    return secrets.trouble or "its secrets are being read"


# ---- folding --------------------------------------------------------------------------------------


def asked(observed: WatcherObserved) -> WatcherObserved:
    """Return the picture of a watcher whose secrets are being read."""
    return replace(observed, secrets=replace(observed.secrets, asked=True))


def read(observed: WatcherObserved, observation: SecretsRead) -> WatcherObserved:
    """Return the picture of a watcher whose secrets were read."""
    return replace(observed, secrets=SecretsObserved(digest=observation.digest))


def unreadable(
    observed: WatcherObserved, observation: SecretsUnreadable, now_ns: int
) -> WatcherObserved:
    """Return the picture of a watcher whose secrets cannot be read; values that were read before stay good."""
    before = observed.secrets
    after = SecretsObserved(before.digest, False, observation.message, before.attempt + 1, now_ns)
    return replace(observed, secrets=after)


def events_of(
    before: SecretsObserved, observation: SecretsRead | SecretsUnreadable
) -> Iterator[Event]:
    """Yield what people are told: a change, a trouble when it is new, and its end."""
    message = getattr(observation, "message", "")
    if message:
        if message != before.trouble:
            yield Event("secrets.failed", f"{observation.watcher}: {message}", observation.watcher)
        return
    if before.trouble:
        yield Event(
            "secrets.recovered", f"{observation.watcher}: its secrets are read", observation.watcher
        )
    if before.digest and before.digest != getattr(observation, "digest", ""):
        yield Event(
            "secrets.changed", f"{observation.watcher}: a secret has changed", observation.watcher
        )
