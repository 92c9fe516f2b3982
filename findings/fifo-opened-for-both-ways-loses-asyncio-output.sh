#!/usr/bin/env bash
# What: asyncio's connect_write_pipe, and uvloop's, lose lines when standard output is a FIFO opened for reading and writing.
# Seen: Python 3.11.7, uvloop 0.23.0, Linux 6.18: 0 to a few of 20 lines arrive and the exit code is 0. With a write-only end of the
#       same FIFO all 20 arrive. print() is not affected.
# Why:  both loops watch a pipe's end for readability to learn that the reader is gone; on such a descriptor the program's own
#       output becomes readable. fifo(7) allows O_RDWR on Linux; POSIX leaves it undefined.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install uvloop==0.23.0
cat >worker.py <<'PY'
import asyncio
import sys


async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_write_pipe(asyncio.Protocol, sys.stdout)
    for number in range(20):
        transport.write(b"line %d\n" % number)
        await asyncio.sleep(0.01)
    transport.close()


if sys.argv[1] == "uvloop":
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
PY
cat >judge.py <<'PY'
import os
import subprocess
import sys

got = {}
for library in ("asyncio", "uvloop"):
    for name, flags in (("both ways", os.O_RDWR), ("write-only", os.O_WRONLY)):
        os.mkfifo("fifo")
        reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
        end = os.open("fifo", flags)
        done = subprocess.run([sys.executable, "worker.py", library], stdout=end, stderr=subprocess.DEVNULL)
        text = b""
        while True:
            try:
                piece = os.read(reader, 65536)
            except BlockingIOError:
                break
            text += piece
            if not piece:
                break
        os.close(end)
        os.close(reader)
        os.unlink("fifo")
        got[library, name] = text.count(b"\n")
        print(f"{library:8} {name:10} {got[library, name]:2} of 20 lines, exit {done.returncode}")
for library in ("asyncio", "uvloop"):
    assert got[library, "write-only"] == 20, "a write-only end no longer gets everything"
    assert got[library, "both ways"] < 20, "nothing is lost any more"
PY
venv/bin/python judge.py
echo "as described"
