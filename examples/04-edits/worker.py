"""Works until SIGTERM stops it."""

import os
import signal

print(f"slot {os.environ['RECONCILE_SLOT']} works, level {os.environ.get('LEVEL', '-')}")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
signal.sigwait({signal.SIGTERM})
