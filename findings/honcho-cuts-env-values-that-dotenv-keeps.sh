#!/usr/bin/env bash
# What: one .env file, two readers, different values: honcho cuts `V=a#b` to `a`, drops a variable that is set to nothing, and removes
#       the quotes from JSON; python-dotenv keeps all of them as written.
# Seen: honcho 2.0.0, python-dotenv 1.2.4.
# Why:  honcho reads each value as words of a shell; python-dotenv has rules of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install honcho==2.0.0 python-dotenv==1.2.4 'setuptools<81'
cat >.env <<'ENV'
COLOUR=a#b
EMPTY=
SETTINGS={"a": "b"}
WORDS=two words
ENV
cat >show.py <<'PY'
import json
import os

print(json.dumps({name: os.environ.get(name) for name in ("COLOUR", "EMPTY", "SETTINGS", "WORDS")}))
PY
cat >judge.py <<'PY'
import json
import subprocess
import sys

from dotenv import dotenv_values

honcho = [sys.executable, "-m", "honcho", "run", sys.executable, "show.py"]
by_honcho = json.loads(subprocess.run(honcho, capture_output=True, text=True, check=True).stdout)
by_dotenv = dict(dotenv_values(".env"))
for name in by_dotenv:
    print(f"{name:9} honcho {by_honcho[name]!r:14} python-dotenv {by_dotenv[name]!r}")
assert by_honcho == {"COLOUR": "a", "EMPTY": None, "SETTINGS": "{a:b}", "WORDS": "twowords"}
assert by_dotenv == {"COLOUR": "a#b", "EMPTY": "", "SETTINGS": '{"a": "b"}', "WORDS": "two words"}
PY
venv/bin/python judge.py
echo "as described"
