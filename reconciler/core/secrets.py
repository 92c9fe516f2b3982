"""Secrets gate starts: a process waits until the values that it shall get are at hand.

The core never sees a value, only a keyed hash of all values of a watcher, which becomes part of what its
processes are made of: other values, other processes. The values live in the controller, so a new one has
none; as long as everything runs as it should it needs none either, and nothing is read. What cannot be read
keeps starts waiting and touches nothing that runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.core.backoff import doubled_ns
from reconciler.core.plan import Plan
from reconciler.model.action import ReadSecrets
from reconciler.model.event import Event
from reconciler.model.observation import SecretsRead, SecretsUnreadable
from reconciler.model.observed import SecretsObserved
from reconciler.model.spec import SecretSpec
from reconciler.model.units import SECOND_NS

FIRST_RETRY_NS: Final = SECOND_NS
LAST_RETRY_NS: Final = 30 * SECOND_NS
"""A secret that cannot be read is tried again: a vault comes back, a file is mounted."""


def known(secrets: SecretsObserved, sources: Mapping[str, SecretSpec]) -> SecretsObserved:
    """Return what is known of the secrets from some sources: nothing, when others were read."""
    return secrets if secrets.sources == sources else SecretsObserved(sources)


def ready(plan: Plan) -> bool:
    """Tell whether the values that a process needs are at hand; asks for them when they are not."""
    secrets = known(plan.observed.secrets, plan.spec.secrets)
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
    """Return why a start waits for secrets that are not at hand."""
    secrets = known(plan.observed.secrets, plan.spec.secrets)
    return secrets.trouble or "its secrets are being read"


# ---- folding --------------------------------------------------------------------------------------


def after(
    before: SecretsObserved, found: SecretsRead | SecretsUnreadable, now_ns: int
) -> SecretsObserved:
    """Return what is known after a reading; when it was in vain, values that were read before stay good."""
    if isinstance(found, SecretsRead):
        return SecretsObserved(found.sources, found.digest)
    tries = before.attempt + 1
    return SecretsObserved(found.sources, before.digest, False, found.message, tries, now_ns)


def events_of(before: SecretsObserved, found: SecretsRead | SecretsUnreadable) -> Iterator[Event]:
    """Yield what people are told: a change, a trouble when it is new, and its end."""
    name = found.watcher
    if isinstance(found, SecretsUnreadable):
        if found.message != before.trouble:
            yield Event("secrets.failed", f"{name}: {found.message}", name)
        return
    if before.trouble:
        yield Event("secrets.recovered", f"{name}: its secrets can be read again", name)
    if before.digest not in {"", found.digest}:
        yield Event("secrets.changed", f"{name}: a secret has changed", name)
