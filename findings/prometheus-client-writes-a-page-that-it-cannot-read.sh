#!/usr/bin/env bash
# What: prometheus_client accepts `a.b`, `a-b` and `a_b` as three metrics, writes all three as `a_b`, and its own OpenMetrics
#       parser then refuses the page.
# Seen: prometheus_client 0.26.0, no error when the metrics are made, registered or written.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install prometheus_client==0.26.0
cat >judge.py <<'PY'
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

registry = CollectorRegistry()
for value, name in enumerate(("queue.depth", "queue-depth", "queue_depth")):
    Gauge(name, "jobs that wait", registry=registry).set(value)
page = generate_latest(registry).decode()
print(page)
names = [line.split()[0] for line in page.splitlines() if not line.startswith("#")]
assert names == ["queue_depth"] * 3, names
try:
    list(text_string_to_metric_families(page))
except ValueError as error:
    print("its own parser:", error)
else:
    raise SystemExit("the parser takes the page now")
PY
venv/bin/python judge.py
echo "as described"
