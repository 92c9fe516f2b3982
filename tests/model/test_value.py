"""Claims about values."""

from __future__ import annotations

import gc

from reconciler.model.spec import Spec, WatcherSpec
from reconciler.model.value import from_plain, to_plain


def test_a_collection_need_not_look_at_values() -> None:
    """It would hold everybody up, each time somebody has had a large spec read."""
    watchers = {f"w{number}": WatcherSpec(cmd=("sleep", "1000")) for number in range(100)}
    spec = Spec(watchers=watchers)
    plain = to_plain(spec)
    from_plain(Spec, plain)  # the first time it is found out how
    gc.collect()
    before = len(gc.get_objects())
    read = from_plain(Spec, plain)
    gc.collect()  # tuples and maps that hold no more than values are looked at once
    assert read == spec
    assert len(gc.get_objects()) - before < 10
