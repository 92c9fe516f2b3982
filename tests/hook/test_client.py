"""What a hook has as arbiter speaks MessagePack as the library does, and finds its way back."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.hook import client as hook_client
from reconciler.hook.client import Arbiter, ManagerError, pack, unpack_first

if TYPE_CHECKING:
    from collections.abc import Callable

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(VALUES)
def test_what_is_packed_the_library_reads_and_the_reverse(value: object) -> None:
    assert msgpack.unpackb(pack(value), strict_map_key=False) == value
    assert unpack_first(msgpack.packb(value) + b"rest") == (value, b"rest")


@pytest.mark.parametrize("size", [15, 16, 31, 32, 255, 256, 65535, 65536])
@pytest.mark.parametrize("made", [lambda n: "x" * n, lambda n: b"x" * n, lambda n: [1] * n])
def test_every_size_has_its_header(made: Callable[[int], object], size: int) -> None:
    assert msgpack.unpackb(pack(made(size))) == made(size)
    assert unpack_first(msgpack.packb(made(size)))[0] == made(size)


@given(VALUES, st.data())
def test_a_value_that_is_not_whole_is_waited_for(value: object, data: st.DataObject) -> None:
    whole = msgpack.packb([1, value])
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert unpack_first(whole[:cut]) == (None, whole[:cut])


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot send set"):
        pack({1})


class Manager:
    """Answers each connection's requests by a list of actions: an answer, or None to hang up."""

    def __init__(self, path: Path, *answers: list[object] | None) -> None:
        self.requests: list[list[object]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answers = list(answers)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while self._answers:
            connection, _ = self._listener.accept()
            with connection:
                unpacker = msgpack.Unpacker()
                while self._answers and (data := connection.recv(65536)):
                    unpacker.feed(data)
                    for request in unpacker:
                        self.requests.append(request)
                        answer = self._answers.pop(0)
                        if answer is None:
                            connection.close()
                            break
                        connection.sendall(msgpack.packb([2, "event", [{}]]))
                        connection.sendall(msgpack.packb([1, request[1], *answer]))
                    else:
                        continue
                    break
        self._listener.close()


def test_a_request_that_was_cut_off_is_sent_again_with_its_id(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "s", None, [None, {"watchers": []}])
    assert Arbiter(str(tmp_path / "s")).call("restart", names=["web"], slot=None) == {
        "watchers": []
    }
    manager.thread.join()
    first, second = (request[3] for request in manager.requests)
    assert first == second
    assert set(first[0]) == {"names", "request_id"}


def test_arbiter_says_what_lets_another_user_in(tmp_path: Path) -> None:
    """As root by a user of another number, else by a folder that even its owner may not enter."""
    is_root = os.geteuid() == 0
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        folder.chmod(0o700 if is_root else 0)
        client = Path(hook_client.__file__).read_text()
        asks = f"Arbiter({str(folder / 's')!r}).call('status')"
        done = subprocess.run(
            ["/usr/bin/env", "python3", "-c", f"{client}\n{asks}"],
            user=65534 if is_root else None,
            env={"PATH": os.defpath},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        folder.chmod(0o700)
    last = done.stderr.strip().rpartition("\n")[2]
    assert last.startswith("PermissionError: this hook runs as ")
    assert "daemon: {access: [{user: " in last


def test_a_refusal_is_raised_with_its_hint(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "s", [["denied", "may not", {"hint": "ask root"}], None])
    with pytest.raises(ManagerError, match=r"^may not \(ask root\)$") as caught:
        Arbiter(str(tmp_path / "s")).call("stop", names=["web"])
    manager.thread.join()
    assert caught.value.code == "denied"
