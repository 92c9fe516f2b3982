"""What errors say that a system gives which has nothing left just now: none says anything of what was asked for."""

from __future__ import annotations

import errno
from typing import Final

NOT_NOW: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
"""It cannot be told or opened just now."""
NO_PLACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""The file system takes nothing new just now: it is full, over quota, read-only or broken."""
