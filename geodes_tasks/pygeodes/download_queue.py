"""``DownloadQueue``: many items, in a script, a notebook or a terminal, until all are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any

from geodes_tasks.client import enqueue_admission, ledgers, planning
from geodes_tasks.client import run as runs
from geodes_tasks.client.batch import Batch
from geodes_tasks.client.item_like import ItemsLike, SourceName, check_items, check_source
from geodes_tasks.client.planning import Planned
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model.formatting import plural
from geodes_tasks.model.results import BatchStatus, DownloadRecord
from geodes_tasks.model.states import State
from geodes_tasks.monitoring import dataframe, html
from geodes_tasks.monitoring.wording import summary
from geodes_tasks.pygeodes.instances import PORTALS
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.stac import readers
from geodes_tasks.transfer import audit, disk
from geodes_tasks.transfer.audit import BAD, Expected
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT


class Problem(StrEnum):
    """Fault of a file of a queue."""

    MISSING = "missing"
    """It was downloaded, and is not there any more."""
    CHANGED = "changed"
    """It is there, with other bytes than the catalogue announces."""
    UNFINISHED = "unfinished"
    """It was not downloaded yet, or cannot be."""


@dataclass(frozen=True, slots=True)
class FileProblem:
    """One file of a queue that is not complete and correct."""

    item_id: str
    asset_key: str
    path: str
    """Where it should be; empty where the item has nothing to download."""
    problem: Problem
    detail: str

    def __str__(self) -> str:
        """Return one line: the problem, the file and the detail."""
        return f"{self.problem}: {self.path or self.item_id} ({self.detail})"


class DownloadQueue:
    """Items to download into one folder.

    Without ``GEODES_TASKS_REDIS_URL`` this machine does the work: a private server and a worker
    run as long as ``run()`` does. With it the cluster's workers do the work, and ``run()`` waits.

    Examples:
        >>> from geodes_tasks import DownloadQueue
        >>> queue = DownloadQueue("items.json", download_dir="downloads", quiet=True)
    """

    def __init__(
        self,
        items: ItemsLike,
        download_dir: str | Path | None = None,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        layout: str = DEFAULT_LAYOUT,
        source: SourceName = "auto",
        extract: bool = False,
        keep_archive: bool = False,
        members: Sequence[str] = (),
        portal_ranges: bool = False,
        conf: Config | None = None,
        quiet: bool = False,
    ) -> None:
        """Keep the items; opens no connection yet.

        Args:
            items: Items of this package, pygeodes, pystac or eodag, plain JSON, collections of
                these, or the name of a file that holds them.
            download_dir: Where the files go; by default the folder of the last Geodes object,
                else of the settings. It need not be empty: files that are complete are kept.
            include: Globs over asset keys, in place of the default choice (data, no XML).
            exclude: Globs over asset keys to leave out.
            layout: Template of the path below the folder, such as ``{collection}/{title}``.
            source: ``auto``, ``geodes`` or ``s3``.
            extract: Unpack zip archives, after their proof, into folders of their name.
            keep_archive: With ``extract``, keep the archives beside their folders.
            members: Globs over members of zip archives, such as ``*_B04_10m.jp2``: only these are
                fetched, into a folder of the archive's name.
            portal_ranges: Fetch members by ranges from the portal too: fewer bytes, more quota.
            conf: In place of that of the last Geodes object.
            quiet: Show no progress.

        Raises:
            TypeError, ValueError: an argument has the wrong type or is none of its values.
        """
        check_items(items)
        check_source(source)
        # An iterator is exhausted by the first run(): a second one needs the items again.
        self.items = list(items) if isinstance(items, Iterator) else items
        self.settings = PORTALS.settings(conf)
        self.download_dir = ledgers.folder_of(self.settings, download_dir)
        self.quiet = quiet
        self.id = enqueue_admission.new_batch_name()
        self.results: list[DownloadRecord] = []
        """One record a file, as the last ``run()`` left it."""
        self._status: BatchStatus | None = None
        self._selection = planning.Selection(
            self.download_dir, include=include, exclude=exclude, layout=layout, source=source,
            extract=extract, keep_archive=keep_archive, members=members,
            portal_ranges=portal_ranges,
        )  # fmt: skip

    def __repr__(self) -> str:
        """Name batch and folder."""
        return f"DownloadQueue({self.id!r}, {str(self.download_dir)!r})"

    def _repr_html_(self) -> str:
        """Show the result of the last ``run()`` in a notebook."""
        head = f"<p><b>{escape(self.id)}</b> to {escape(str(self.download_dir))}</p>"
        if self._status is None:
            return f"{head}<p>not run yet</p>"
        table = html.table(self.results, self._status.total) if self.results else ""
        return f"{head}<p>{escape(summary(self._status))}</p>{table}"

    def to_dataframe(self) -> Any:
        """Return a pandas data frame with a row for each file, as the last ``run()`` left it.

        Raises:
            MissingPackageError: pandas is not installed.

        Examples:
            >>> len(queue.to_dataframe())
            3
        """
        return dataframe.frame(self.results)

    def run(self) -> BatchStatus:
        """Download missing files, show the progress, wait until all are done.

        After an interruption (Ctrl-C) the same call continues where it stopped, in this process
        or a new one. One item that fails does not stop the others.

        Returns:
            The counts; ``results`` has a record for each file.

        Raises:
            KeyMissingError: files are missing, and there is no API key; nothing was started.
            KeyboardInterrupt: it was interrupted; a line says how many downloads are left.
            ConfigError: the layout or a setting cannot be used.
            DiskError, NotAFileError: the folder cannot be written.
            FolderBusyError: another process downloads into the folder, on this machine.
            LedgerUnavailableError: the cluster's Redis does not answer.

        Examples:
            >>> queue.run().ok
            True
        """
        planned: Iterable[Planned] = self._planned()
        folder = None if has_cluster(self.settings) else self.download_dir
        if folder is not None:
            # One error now, in place of the same error for every download.
            disk.probe(folder)
            planned = runs.check_key(planned, self.settings)
            if self._status is not None:
                # In a cluster the batch lives on between two runs; a private one ends with its run.
                self.id = enqueue_admission.new_batch_name()
        with runs.begun(planned, folder, self.settings, self.id) as run:
            if not run.receipt.downloads:
                self._write("nothing to download: there are no items")
                self._status = Batch(self.id, conf=self.settings, is_empty=True).status()
                return self._status
            try:
                self._write(f"{plural(run.receipt.downloads, 'download')} to {self.download_dir}")
                view = html.progress_view(quiet=self.quiet)
                status = run.watch(view, write=self._write)
                self.results, self._status = run.batch.results(), status
            except KeyboardInterrupt:
                self._write(f"interrupted: {run.left()}; run() continues")
                raise
            self._write(summary(status))
            for line in runs.failure_lines(
                run.batch.ledger.reading.failures(run.batch.id), "queue.results"
            ):
                self._write(line)
            return status

    def _planned(self) -> Iterator[Planned]:
        return planning.plan(readers.items_of(self.items), self._selection)

    def _write(self, text: str) -> None:
        if not self.quiet:
            html.write_line(text)

    def check_integrity(self) -> list[FileProblem]:
        """Read every file again and compare it with the catalogue.

        Returns:
            One entry for each file with a problem, empty when all are correct; also printed.

        Raises:
            SourceError: the items cannot be read.

        Examples:
            >>> queue.check_integrity()
            []
        """
        count, problems = 0, list[FileProblem]()
        with ledgers.ledger_of(self.settings, self.download_dir) as ledger:
            for planned in self._planned():
                count += len(planned.requests) + len(planned.refusals)
                problems += [
                    FileProblem(one.item_id, one.asset_key, "", Problem.UNFINISHED, str(one.error))
                    for one in planned.refusals
                ]
                # In this process: a pool of spawned ones would run a user's script once more each.
                audited = (_audited(request, ledger) for request in planned.requests)
                problems += [problem for problem in audited if problem is not None]
        for problem in problems:
            self._write(str(problem))
        self._write(f"{count - len(problems)} of {plural(count, 'file')} correct")
        return problems


def _audited(request: Request, ledger: Ledger | None) -> FileProblem | None:
    """Return the problem of one file; None when it has none."""
    record = ledger.reading.record(request.download_id) if ledger is not None else None
    asset, size, checksum = request.asset, request.asset.size_bytes, request.asset.checksum
    if record is not None:
        size = record.size_bytes if size is None else size
        checksum = checksum or (checksums.parse(record.checksum) if record.checksum else None)
    found = audit.audit(Expected(request.path, size, checksum))
    if found.finding not in BAD:
        return None
    detail = found.detail or "no such file"
    problem = Problem.CHANGED
    if record is not None and record.state is not State.SUCCESS:
        # What an older version of the item left at that path is not this download's work.
        problem = Problem.UNFINISHED
        error = f": {record.error.message}" if record.error else ""
        detail = f"{record.reason or record.state}{error}"
    elif found.finding is audit.Finding.MISSING:
        problem = Problem.MISSING if record is not None else Problem.UNFINISHED
    return FileProblem(asset.item_id, asset.key, request.path, problem, detail)
