"""The directories of zip archives, kept so that a second set of members requests none again."""

from __future__ import annotations

import base64
import contextlib
import zlib

from geodes_tasks.errors import LedgerForbiddenError, LedgerUnavailableError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.model.asset import Asset

MOST_KEPT = 4_000
"""Number of directories that are kept, at most: 14 MB of Redis for those of Sentinel-2 products."""
KEPT_S = 86_400
"""Seconds after the last one was kept, after which all are removed."""
_AWAY = (LedgerUnavailableError, LedgerForbiddenError)
MAX_BYTES = 16 * 1024
"""Bytes of a packed directory that is kept, at most; one of 120 members takes 3,500."""


class Directories(Part):
    """Keep and find the directories of archives, by the checksum of the archive.

    Without Redis none is found or kept: that costs a request to the source, and no more.
    """

    def find(self, asset: Asset) -> bytes:
        """Return the end of an archive from its directory on; b"" where none is kept."""
        # Without a checksum nothing proves that the archive is still the same.
        if asset.checksum is None:
            return b""
        with contextlib.suppress(*_AWAY, ValueError, zlib.error):
            with self._connection.commands() as redis:
                text = redis.hget(self._key("directories"), str(asset.checksum))
            return zlib.decompress(base64.b64decode(text)) if text else b""
        return b""

    def keep(self, asset: Asset, content: bytes) -> None:
        """Keep the end of an archive from its directory on, where there is room."""
        # The client decodes all answers as UTF-8.
        text = base64.b64encode(zlib.compress(content, 9))
        if asset.checksum is None or len(text) > MAX_BYTES:
            return
        key = self._key("directories")
        with contextlib.suppress(*_AWAY), self._connection.commands() as redis:
            if redis.hlen(key) < MOST_KEPT or redis.hexists(key, str(asset.checksum)):
                pipeline = redis.pipeline()
                pipeline.hset(key, str(asset.checksum), text)
                pipeline.expire(key, KEPT_S)
                pipeline.execute()
