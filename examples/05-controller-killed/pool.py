"""One of a pool of workers."""

import os
import threading

print(f"worker {os.environ['RECONCILE_SLOT']} is here")
threading.Event().wait()
