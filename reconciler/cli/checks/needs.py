"""What a spec asks of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.value import Struct


class Needs(Struct, frozen=True):
    """What a spec asks of the machine; as it stands: of none."""

    processes: int = 0
    sockets: int = 0
    low_port: int | None = None
    """The lowest port of the Internet that it binds."""
    other_users: tuple[str, ...] = ()
    """Watchers that run as another user than the manager may be."""
    schedules: tuple[str, ...] = ()
    """Jobs that the clock fires."""
    group_limits: tuple[str, ...] = ()
    """Controllers of `limits.cgroup`."""


def needs_of(spec: Mapping[str, object]) -> Needs:
    """Return what a spec asks, as its reader answers it: fields at their defaults are left out."""
    watchers, sockets = _blocks(spec.get("watchers")), _blocks(spec.get("sockets"))
    counts = (each.get("numprocesses", 1) for each in watchers.values())
    group = [_block(_block(each.get("limits")).get("cgroup")) for each in watchers.values()]
    ports = [port for each in sockets.values() if (port := _port(each.get("listen")))]
    return Needs(
        sum(count for count in counts if isinstance(count, int)),
        len(sockets),
        min(ports, default=None),
        tuple(name for name, each in watchers.items() if each.get("user") is not None),
        tuple(name for name, each in watchers.items() if each.get("schedule") is not None),
        tuple(sorted({name.partition("_")[0] for each in group for name in each})),
    )


def _blocks(value: object) -> dict[str, Mapping[str, object]]:
    return {name: _block(each) for name, each in _block(value).items()}


def _block(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _port(listen: object) -> int | None:
    port = _block(listen).get("port")
    return port if isinstance(port, int) and port > 0 else None
