"""How many connections an address has, as the kernel tells."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from reconciler.sockets.queues import connections_at

if TYPE_CHECKING:
    from pathlib import Path


def tcp(family: int, host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen()
    return listener


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],
)
def test_connections_count_while_they_wait_are_open_and_have_just_ended(
    family: int, host: str
) -> None:
    with tcp(family, host) as listener, tcp(family, host) as other:
        port = listener.getsockname()[1]
        shown = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        assert connections_at(shown) == 0
        near = "127.0.0.1" if host == "0.0.0.0" else host
        socket.create_connection((near, other.getsockname()[1])).close()
        with socket.create_connection((near, port)) as client:
            assert connections_at(shown) == 1
            served, _ = listener.accept()
            assert connections_at(shown) == 1
            served.close()  # who closes first stays in TIME_WAIT
            assert client.recv(1) == b""
        assert connections_at(shown) == 1


def test_connections_of_a_unix_socket_count_while_they_are_open(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        assert connections_at(f"unix:{path}") == 0
        client.connect(path)
        served, _ = listener.accept()
        assert connections_at(f"unix:{path}") == 1
        served.close()
        assert connections_at(f"unix:{path}") == 0


def test_what_is_no_address_is_told() -> None:
    with pytest.raises(ValueError, match="expected an address"):
        connections_at("nowhere")
