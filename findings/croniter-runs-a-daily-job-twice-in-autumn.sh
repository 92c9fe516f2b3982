#!/usr/bin/env bash
# What: on the day when clocks go back, croniter runs `30 2 * * *` twice; cronsim, like Debian's cron, once. From inside the
#       repeated hour, cronsim answers with an instant that has passed.
# Seen: croniter 7.0.0, cronsim 2.8, tzdata 2026.6, Europe/Berlin, 2027-10-31.
# So:   compare instants (timestamps), never local times of one zone: Python compares those by wall clock.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip -qq --disable-pip-version-check install croniter==7.0.0 cronsim==2.8 tzdata==2026.6
cat >judge.py <<'PY'
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

BERLIN = ZoneInfo("Europe/Berlin")
begin = datetime(2027, 10, 30, 12, tzinfo=timezone.utc).astimezone(BERLIN)
end = datetime(2027, 11, 1, 0, tzinfo=timezone.utc).timestamp()


def utc(when):
    return when.astimezone(timezone.utc).strftime("%d %H:%MZ")


runs, each = [], croniter("30 2 * * *", begin)
while (when := each.get_next(datetime)).timestamp() < end:
    runs.append(utc(when))
print("croniter:", runs)
assert runs == ["31 00:30Z", "31 01:30Z"]
runs = []
for when in CronSim("30 2 * * *", begin):
    if when.timestamp() >= end:
        break
    runs.append(utc(when))
print("cronsim: ", runs)
assert runs == ["31 00:30Z"]
now = datetime(2027, 10, 31, 1, 10, tzinfo=timezone.utc).astimezone(BERLIN)
answer = next(CronSim("30 2 * * *", now))
print("cronsim asked at", utc(now), "answers", utc(answer), "which by Python is later:", answer > now)
assert answer.timestamp() < now.timestamp()
assert answer > now
PY
venv/bin/python judge.py
echo "as described"
