#!/usr/bin/env bash
# What: in supervisord.conf an unquoted `environment=URL=http://host/p?a=b&c=d` sets three variables, and none has the URL as written.
# Seen: supervisor 4.3.0: URL=http://host/p, a=b and c=d; no error, no warning. In quotes the value is whole.
# Why:  the value is read by a tokenizer of words, for which ? and & end one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install supervisor==4.3.0 'setuptools<81'
cat >supervisord.conf <<'INI'
[supervisord]
nodaemon=true
logfile=%(here)s/log
pidfile=%(here)s/pid
[program:bare]
command=/usr/bin/env
environment=URL=http://host/p?a=b&c=d
autorestart=false
startsecs=0
stdout_logfile=%(here)s/bare
[program:quoted]
command=/usr/bin/env
environment=URL="http://host/p?a=b&c=d"
autorestart=false
startsecs=0
stdout_logfile=%(here)s/quoted
INI
venv/bin/supervisord -c supervisord.conf >supervisord.out 2>&1 &
daemon=$!
trap 'kill "$daemon" 2>/dev/null || :; wait "$daemon" 2>/dev/null || :; rm -rf "$folder"' EXIT
for _ in $(seq 200); do
  grep -qs URL= quoted && grep -qs SUPERVISOR bare && break
  sleep 0.1
done
grep -E '^(URL|a|c)=' bare | sort
echo "quoted: $(grep '^URL=' quoted)"
grep -qx 'URL=http://host/p?a=b&c=d' quoted
if grep -qx 'URL=http://host/p?a=b&c=d' bare; then
  echo "the URL is whole now"
  exit 1
fi
grep -qx 'URL=http://host/p' bare
grep -qx 'a=b' bare
grep -qx 'c=d' bare
echo "as described"
