"""SHA-2, of CPython's own: hashlib loads OpenSSL for it, which takes 2 ms."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256, sha512
else:
    try:
        from _sha256 import sha256
        from _sha512 import sha512
    except ImportError:  # Python 3.12 has them elsewhere
        from hashlib import sha256, sha512

__all__ = ["sha256", "sha512"]
