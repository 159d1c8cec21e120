"""Who watches a download, as the engine sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from geodes_tasks.errors import GeodesTasksError


class Attempt(Protocol):
    """Who watches a download. Each method may raise to stop it."""

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Hear how many bytes are on disk, and how many of them just came over the network."""
        ...

    def before_open(self, source: str) -> None:
        """Hear that a request is about to be made; the place to spend quota."""
        ...

    def gave_up(self, source: str, error: GeodesTasksError) -> None:
        """Hear why a source did not give the file, where that does not end the download."""
        ...

    def confirm(self) -> None:
        """Be asked, just before a file is published, whether the right to do so still holds."""
        ...


class Unwatched:
    """Nobody watches: a notebook, a unit test, a benchmark."""

    def progress(self, done_bytes: int, received_bytes: int = 0) -> None:
        """Ignore it."""

    def before_open(self, source: str) -> None:
        """Allow it."""

    def gave_up(self, source: str, error: GeodesTasksError) -> None:
        """Ignore it."""

    def confirm(self) -> None:
        """Allow it."""
