"""Digests as Python has them itself: hashlib loads OpenSSL beside, which costs a program 2 MiB and each start 5 ms.

`hashlib` takes them from these modules, too, where there is no OpenSSL; where they are missing, it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b, sha256
else:
    try:
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b
    try:
        from _sha2 import sha256  # since Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256
        except ImportError:
            from hashlib import sha256

__all__ = ["blake2b", "sha256"]
