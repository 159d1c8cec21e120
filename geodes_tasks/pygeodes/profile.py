"""``Profile``: running, queued and finished downloads of this user, in queues and alone."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Literal, Self, TypeVar

from rich.live import Live
from rich.text import Text

from geodes_tasks.client import ledgers, single_downloads
from geodes_tasks.client.local_server import known_folders
from geodes_tasks.errors import LedgerUnavailableError, UnknownBatchError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.results import DownloadRecord
from geodes_tasks.model.states import ACTIVE, State
from geodes_tasks.monitoring import html
from geodes_tasks.monitoring.picture import sections
from geodes_tasks.monitoring.snapshot import Snapshot, SnapshotReader
from geodes_tasks.monitoring.terminal import Picture
from geodes_tasks.monitoring.wording import STATE_WORDS
from geodes_tasks.pygeodes.instances import PORTALS
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config

RESET_MARK = "profile-reset"
"""File whose modification time is the last reset; other users and processes are not affected."""
FOLDERS = 20
"""Number of download folders whose ledgers are read at most, the last ones."""
DAY, WEEK = timedelta(days=1), timedelta(days=7)
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class ProfileDownload:
    """One download: pygeodes' names over the ledger's record.

    pygeodes calls it ``Download``: ``geodes_tasks.utils.profile.Download``.
    """

    record: DownloadRecord
    done_bytes: int | None = None
    """Bytes on disk while it runs, else None."""

    @property
    def id(self) -> str:
        """The id, which is also that of the Celery task."""
        return self.record.download_id

    @property
    def destination(self) -> str:
        """Path of the file."""
        return self.record.path

    @property
    def started_at(self) -> datetime | None:
        """Start of its last attempt, local time; None before the first."""
        return _moment(self.record.started_at)

    @property
    def completed_at(self) -> datetime | None:
        """End, local time; None while it is unfinished."""
        return _moment(self.record.finished_at)

    @property
    def time_taken(self) -> timedelta | None:
        """Duration of its last attempt; None while it is unfinished."""
        start, end = self.started_at, self.completed_at
        return end - start if start and end else None


class Profile:
    """The downloads of this user, of all processes, at the moment of ``load()``.

    With ``GEODES_TASKS_REDIS_URL`` these are the cluster's, and the single downloads of this
    machine. Without it they are those of every folder that this user downloaded to here.

    Examples:
        >>> from geodes_tasks import Profile
        >>> profile = Profile.load(download_dir="downloads")
        >>> len(profile.recent_downloads())
        3
    """

    def __init__(self, downloads: Iterable[ProfileDownload] = ()) -> None:
        """Keep the downloads; ``load()`` reads those of the ledgers."""
        self.downloads = {download.id: download for download in downloads}

    @classmethod
    def load(cls, conf: Config | None = None, download_dir: str | Path | None = None) -> Self:
        """Read the ledgers. Return the downloads since the last ``reset()``.

        Args:
            conf: In place of that of the last Geodes object.
            download_dir: Folder whose last run is read too; default the configured one.

        Raises:
            LedgerUnavailableError: the cluster's Redis does not answer.
        """
        known, since = PORTALS.settings(conf), None
        with contextlib.suppress(OSError):
            mark = known.state_dir.expanduser() / RESET_MARK
            since = datetime.fromtimestamp(mark.stat().st_mtime)  # noqa: DTZ006 - local, as below
        found = [ProfileDownload(record) for record in single_downloads.read(known)]
        more = [] if download_dir is None else [ledgers.folder_of(known, download_dir)]
        found += _of_ledgers(known, _downloads_of, more)
        # A reset hides the past only: what is queued or running is shown whenever it began.
        return cls(
            one
            for one in found
            if since is None
            or one.record.state in ACTIVE
            or (one.completed_at is not None and one.completed_at > since)
        )

    @classmethod
    def reset(cls, conf: Config | None = None) -> None:
        """Hide the downloads that ended before now.

        Nothing is deleted: files and records stay, also those that other users see.
        """
        mark = PORTALS.settings(conf).state_dir.expanduser() / RESET_MARK
        # Private: the folder holds the ledgers of one-machine runs too.
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()
        # The kernel's own time of a file is that of its last tick, up to 10 ms ago: what ended in
        # between would come after the reset (time(7)).
        now = time.time()
        os.utime(mark, (now, now))

    def __repr__(self) -> str:
        """Return the number of downloads in each state."""
        states = Counter(STATE_WORDS[one.record.state] for one in self.downloads.values())
        counts = (f"{count} {word}" for word, count in states.items())
        return f"Profile({', '.join(counts) or 'no downloads'})"

    @property
    def nb_downloads(self) -> int:
        """Number of downloads."""
        return len(self.downloads)

    def current_downloads(self) -> list[ProfileDownload]:
        """Return the running downloads."""
        return self._in(State.STARTED)

    def pending_downloads(self) -> list[ProfileDownload]:
        """Return the downloads that are queued or wait for a retry."""
        return self._in(State.PENDING, State.RETRY)

    def just_finished_downloads(self, nb_seconds: float) -> list[ProfileDownload]:
        """Return the downloads that ended in the last seconds, one second at least."""
        since = datetime.now() - timedelta(seconds=max(nb_seconds, 1))  # noqa: DTZ005 - local
        return [one for one in self.downloads.values() if (one.completed_at or since) > since]

    def recent_downloads(
        self, since: Literal["today", "this_week"] = "today"
    ) -> list[ProfileDownload]:
        """Return the downloads that began or ended in the last 24 hours, or seven days.

        Raises:
            ValueError: neither ``today`` nor ``this_week``.
        """
        if since not in {"today", "this_week"}:
            raise ValueError(f"since is 'today' or 'this_week', not {since!r}")
        first = datetime.now() - (DAY if since == "today" else WEEK)  # noqa: DTZ005 - local
        times = ((one, one.completed_at or one.started_at) for one in self.downloads.values())
        return [one for one, at in times if at is not None and at >= first]

    def _in(self, *states: State) -> list[ProfileDownload]:
        return [one for one in self.downloads.values() if one.record.state in states]

    @classmethod
    def watch_downloads(
        cls,
        refresh_rate: float = 5,
        simplified: bool = False,
        *,
        for_ever: bool = False,
        conf: Config | None = None,
    ) -> None:
        """Show the downloads of all processes until none is left, or until Ctrl-C.

        Args:
            refresh_rate: Seconds between two readings.
            simplified: Write a line each time, in place of the picture of ``watch``.
            for_ever: Continue when nothing is queued or running.
            conf: In place of that of the last Geodes object.
        """
        known = PORTALS.settings(conf)
        with contextlib.suppress(KeyboardInterrupt), _shown(known, plain=simplified) as show:
            while True:
                profile = cls.load(known)
                show(profile)
                if not (for_ever or profile._in(*ACTIVE)):
                    return
                time.sleep(refresh_rate)

    def line(self) -> str:
        """Return the numbers of running and pending downloads in one line."""
        current, pending = len(self.current_downloads()), len(self.pending_downloads())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return f"[{now}] Current downloads: {current} | Pending downloads: {pending}"


@contextlib.contextmanager
def _shown(settings: Config, *, plain: bool) -> Iterator[Callable[[Profile], None]]:
    """Yield a function that shows a profile: the picture in a terminal or notebook, else lines."""
    console = html.console()
    if plain or not (console.is_interactive or html.in_notebook()):
        yield lambda profile: console.print(profile.line(), highlight=False, markup=False)
        return
    if html.in_notebook():
        cell = html.Cell()
        yield lambda profile: cell.draw(
            "".join(map(html.picture, _of_ledgers(settings, _unfinished)))
            or f"<p>{escape(profile.line())}</p>"
        )
        return
    # Without its own thread: between two readings nothing on the screen changes.
    with Live(console=console, auto_refresh=False) as live:

        def show(profile: Profile) -> None:
            rows = [one for each in _of_ledgers(settings, _unfinished) for one in sections(each)]
            # At the end nothing is unfinished: the line stays on the screen.
            live.update(Picture(rows) if rows else Text(profile.line()), refresh=True)

        yield show


def _of_ledgers(
    settings: Config, read: Callable[[Ledger], list[Read]], more: Iterable[Path] = ()
) -> list[Read]:
    """Return what is read in the cluster's ledger, else in those of the last folders and more."""
    if has_cluster(settings):
        return read(Ledger.of(settings))
    found = []
    for folder in dict.fromkeys((*known_folders(settings)[:FOLDERS], *more)):
        # The server of a run may end while its ledger is read: the next reading has it.
        with (
            contextlib.suppress(LedgerUnavailableError, UnknownBatchError),
            ledgers.ledger_of(settings, folder) as ledger,
        ):
            found += read(ledger) if ledger is not None else []
    return found


def _unfinished(ledger: Ledger) -> list[Snapshot]:
    """Return a snapshot of the unfinished batches of a ledger, if there are any."""
    names = [one for one in ledger.reading.batches() if ledger.reading.status(one).unfinished]
    return [SnapshotReader(ledger, names).read()] if names else []


def _downloads_of(ledger: Ledger) -> list[ProfileDownload]:
    """Return every download that a ledger has, with the bytes of those that run."""
    running = {one.download_id: one.done_bytes for one in ledger.reading.running()}
    return [
        ProfileDownload(record, running.get(record.download_id))
        for batch in ledger.reading.batches()
        for record in ledger.reading.records(batch)
    ]


def _moment(text: str | None) -> datetime | None:
    """Return a local time without a zone, which pygeodes' users compare with ``datetime.now()``."""
    return datetime.fromisoformat(text).astimezone().replace(tzinfo=None) if text else None
