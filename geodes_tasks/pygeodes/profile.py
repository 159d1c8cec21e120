"""``Profile``: what is downloaded now, what waits, what was; answered from the ledgers."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from geodes_tasks.client import run as runs
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.model.states import ACTIVE, State
from geodes_tasks.monitoring import notebook
from geodes_tasks.pygeodes.item import PORTALS
from geodes_tasks.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.model.results import DownloadRecord
    from geodes_tasks.settings.config import Settings

RESET_MARK = "profile-reset"
"""A file whose time says since when downloads count; setting it disturbs nobody."""
DAY, WEEK = timedelta(days=1), timedelta(days=7)
_COLOURS = {State.STARTED: "orange1", State.SUCCESS: "green", State.FAILURE: "red"}


@dataclass(frozen=True, slots=True)
class Download:
    """One download, with pygeodes' names and the ledger's record."""

    record: DownloadRecord
    done_bytes: int | None = None
    """Bytes on disk while it runs; None when it does not."""

    @property
    def id(self) -> str:
        """The id, which is the Celery task's too."""
        return self.record.download_id

    @property
    def destination(self) -> str:
        """Where the file goes."""
        return self.record.path

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began, UTC."""
        return _moment(self.record.started_at)

    @property
    def completed_at(self) -> datetime | None:
        """When it ended, UTC; None while it has not."""
        return _moment(self.record.finished_at)

    @property
    def time_taken(self) -> timedelta | None:
        """How long its last attempt took."""
        start, end = self.started_at, self.completed_at
        return end - start if start and end else None


class Profile:
    """The downloads of this user as they stood when it was loaded; of all processes.

    With ``GEODES_TASKS_REDIS_URL`` these are the cluster's. Without it they are those of every
    one-machine run under way, and of the last one in the configured folder.
    """

    def __init__(self, downloads: Iterable[Download] = ()) -> None:
        """Take downloads; ``load()`` finds them."""
        self.downloads = {download.id: download for download in downloads}

    @classmethod
    def load(cls, settings: Settings | None = None, download_dir: str | Path | None = None) -> Self:
        """Read the ledgers.

        Args:
            settings: In place of those of the last Geodes object.
            download_dir: Folder whose last run counts too; default the configured one.

        Raises:
            LedgerUnavailableError: the cluster's Redis does not answer.
        """
        known = settings or current_settings()
        since = _reset_at(known)
        with contextlib.ExitStack() as stack:
            ledgers = stack.enter_context(_ledgers(known, download_dir))
            found = [one for ledger in ledgers for one in _downloads(ledger)]
        return cls(one for one in found if _counts(one, since))

    @classmethod
    def reset(cls, settings: Settings | None = None) -> None:
        """Begin a new history: what ended before now is shown no more.

        Nothing is deleted: files, proofs, what runs and what others see stay as they are.
        """
        mark = _mark(settings or current_settings())
        mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mark.touch()

    @property
    def nb_downloads(self) -> int:
        """How many downloads there are."""
        return len(self.downloads)

    def current_downloads(self) -> list[Download]:
        """Give the downloads under way."""
        return self._in(State.STARTED)

    def pending_downloads(self) -> list[Download]:
        """Give the downloads that are queued or wait."""
        return self._in(State.PENDING, State.RETRY)

    def just_finished_downloads(self, nb_seconds: float) -> list[Download]:
        """Give what ended in the last seconds."""
        since = datetime.now(UTC) - timedelta(seconds=max(nb_seconds, 1))
        return [one for one in self.downloads.values() if (one.completed_at or since) > since]

    def recent_downloads(self, since: Literal["today", "this_week"] = "today") -> list[Download]:
        """Give what began or ended in the last 24 hours, or seven days.

        Raises:
            ValueError: neither ``today`` nor ``this_week``.
        """
        if since not in {"today", "this_week"}:
            raise ValueError(f"since is 'today' or 'this_week', not {since!r}")
        first = datetime.now(UTC) - (DAY if since == "today" else WEEK)
        times = ((one, one.completed_at or one.started_at) for one in self.downloads.values())
        return [one for one, at in times if at is not None and at >= first]

    def _in(self, *states: State) -> list[Download]:
        return [one for one in self.downloads.values() if one.record.state in states]

    @classmethod
    def watch_downloads(
        cls,
        refresh_rate: float = 5,
        simplified: bool = False,
        *,
        for_ever: bool = False,
        settings: Settings | None = None,
    ) -> None:
        """Watch what is downloaded, by whatever process, until nothing is left or Ctrl-C.

        Args:
            refresh_rate: Seconds between two looks.
            simplified: One line a look, in place of a table.
            for_ever: Go on watching when nothing is queued or running.
            settings: In place of those of the last Geodes object.
        """
        known = settings or current_settings()
        with contextlib.suppress(KeyboardInterrupt), _shown(plain=simplified) as show:
            while True:
                profile = cls.load(known)
                show(profile, refresh_rate * 2)
                if not (for_ever or profile._in(*ACTIVE)):
                    return
                time.sleep(refresh_rate)

    def line(self) -> str:
        """Say in one line how things stand."""
        current, pending = len(self.current_downloads()), len(self.pending_downloads())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return f"[{now}] Current downloads: {current} | Pending downloads: {pending}"

    def table(self, finished_s: float) -> Table:
        """Draw current, pending and just finished downloads."""
        table = Table(caption="current, pending and just finished downloads", expand=True)
        for column in ("File", "State", "Progress", "Destination", "Started", "Ended"):
            table.add_column(column, overflow="fold")
        shown = self.just_finished_downloads(finished_s), self.current_downloads()
        for one in (*shown[0], *shown[1], *self.pending_downloads()[:20]):
            table.add_row(*map(Text, _row(one)), style=_COLOURS.get(one.record.state))
        return table


def current_settings() -> Settings:
    """Give the settings of the last Geodes object, else the environment's."""
    return PORTALS.last().settings if PORTALS else config.load()


@contextlib.contextmanager
def _shown(*, plain: bool) -> Iterator[Callable[[Profile, float], None]]:
    """Give what shows a profile here: a live table at a terminal, else lines."""
    console = notebook.console()
    if plain or not console.is_terminal:
        yield lambda profile, _: console.print(profile.line(), highlight=False, markup=False)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda profile, seconds: live.update(profile.table(seconds), refresh=True)


def _row(one: Download) -> list[str]:
    record = one.record
    state = f"{record.state} ({record.reason})" if record.reason else str(record.state)
    size = human_bytes(record.size_bytes)
    amount = size if one.done_bytes is None else f"{human_bytes(one.done_bytes)} of {size}"
    times = (record.started_at or "", record.finished_at or "")
    return [Path(record.path).name or record.item_id, state, amount, record.path, *times]


# --- ledgers -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ledgers(settings: Settings, download_dir: str | Path | None) -> Iterator[list[Ledger]]:
    folder = runs.folder_of(settings, download_dir)
    live = [] if runs.has_cluster(settings) else list(runs.private_ledgers(settings))
    with runs.ledger_of(settings, folder) as own:
        # The folder's own run may be under way, and then be among the live ones too.
        known = {ledger.connection.url for ledger in live}
        yield live + ([own] if own is not None and own.connection.url not in known else [])


def _downloads(ledger: Ledger) -> Iterator[Download]:
    running = {one.download_id: one.done_bytes for one in ledger.reading.running()}
    for batch in ledger.reading.batches():
        for record in ledger.reading.records(batch):
            yield Download(record, running.get(record.download_id))


def _counts(one: Download, since: datetime | None) -> bool:
    """Tell whether a download belongs to the history that began with the last reset."""
    ended = one.completed_at
    return since is None or one.record.state in ACTIVE or (ended is not None and ended > since)


def _mark(settings: Settings) -> Path:
    return settings.state_dir.expanduser() / RESET_MARK


def _reset_at(settings: Settings) -> datetime | None:
    with contextlib.suppress(OSError):
        return datetime.fromtimestamp(_mark(settings).stat().st_mtime, UTC)
    return None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
