#!/usr/bin/env bash
# What: every process of a circus.ini with an [env] section gets a variable `__name__` that nobody wrote, and without `copy_env` it
#       gets neither PATH nor HOME.
# Seen: circus 0.19.0. The value is the name of the last section that applied: `env`, or `env:NAME`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install circus==0.19.0
cat >circus.ini <<'INI'
[circus]
endpoint = ipc://control
pubsub_endpoint = ipc://events
check_delay = 1

[env]
GREETING = hello

[watcher:show]
cmd = /usr/bin/env
respawn = False
stdout_stream.class = FileStream
stdout_stream.filename = shown
INI
venv/bin/circusd circus.ini >circusd.log 2>&1 &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || :; wait "$daemon" 2>/dev/null || :; rm -rf "$folder"' EXIT
for _ in $(seq 200); do
  grep -qs GREETING shown && break
  sleep 0.1
done
sort shown
grep -qx '__name__=env' shown
grep -qx 'GREETING=hello' shown
if grep -qE '^(PATH|HOME)=' shown; then
  echo "PATH or HOME is there now"
  exit 1
fi
echo "as described"
