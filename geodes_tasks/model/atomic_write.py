"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(
    path: Path, mode: str = "w", permissions: int = 0o666, **options: Any
) -> Iterator[Any]:
    """Open a new file that takes the name of another one at the end; an error leaves that as it is.

    Programs that write one file at once do not mix, and none reads half of it, not even after a
    power cut.

    Args:
        path: The name; a link there is replaced.
        mode: As of open(): ``w`` or ``wb``.
        permissions: Of the new file, less those of the umask.
        options: Further ones of open().

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}")
    # O_EXCL follows no link that another user made in a shared folder (open(2)).
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, permissions)
    try:
        with os.fdopen(descriptor, mode, **options) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())  # rename(2) may reach the disk before the bytes
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
