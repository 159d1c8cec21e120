"""The commands ``download`` and ``enqueue``: items in, verified files out, here or on a cluster."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from geodes_tasks.cli import options
from geodes_tasks.cli import search as searches
from geodes_tasks.cli.command_table import INTERRUPTED
from geodes_tasks.cli.options import AsJson, ConfigFile
from geodes_tasks.cli.output import stderr, write_data, write_line
from geodes_tasks.client import dry_run as dry_runs
from geodes_tasks.client import enqueue_admission, exit_codes, planning
from geodes_tasks.client import run as runs
from geodes_tasks.client.batch import Batch
from geodes_tasks.client.dry_run import Plan
from geodes_tasks.client.enqueue_admission import Receipt, add_by_class
from geodes_tasks.client.planning import Planned
from geodes_tasks.client.price import Price, Quote
from geodes_tasks.client.run import Run, failure_lines
from geodes_tasks.errors import (
    ConfigError,
    DiskError,
    ItemNotFoundError,
    LedgerError,
    NoItemsError,
    NotAFileError,
    UnknownBatchError,
)
from geodes_tasks.ledger import FailureGroup
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.monitoring.snapshot import Snapshot, SnapshotReader
from geodes_tasks.monitoring.terminal import view
from geodes_tasks.monitoring.wording import summary
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import named_key
from geodes_tasks.settings.cluster import require_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.stac.readers import Found
from geodes_tasks.transfer import disk
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT


def download(
    source: options.Files = None,
    output_dir: options.Folder = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    layout: options.Layout = DEFAULT_LAYOUT,
    from_: options.From = "auto",
    extract: options.Extract = False,
    keep_archive: options.KeepArchive = False,
    members: options.Members = None,
    portal_ranges: options.PortalRanges = False,
    slots: options.Slots = None,
    limit_rate: options.Rate = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be downloaded.")
    ] = False,
    as_json: AsJson = False,
    no_progress: options.Quiet = False,
    config_file: ConfigFile = None,
    collection: searches.Collections = None,
    ids: searches.Ids = None,
    bbox: searches.Bbox = None,
    intersects: searches.Intersects = None,
    start: searches.Start = None,
    end: searches.End = None,
    cloud_cover: searches.CloudCover = None,
    tile: searches.Tile = None,
    query: searches.Query = None,
    ask_above: searches.AskAbove = searches.ASK_ABOVE,
    yes: options.Yes = False,
    max_wait: options.MaxWait = None,
) -> None:
    """Download items on this machine; nothing needs installing or configuring first.

    The same command again continues where the last one stopped.

    Examples: geodes-tasks download items.json -o DIR;
    geodes-tasks download -c PEPS_S2_L1C --tile T31TCJ --start 2025-04-01 -o DIR. Exit codes: 0
    done, 2 usage, 3 some failed, 4 nothing to download, 5 only transient failures, 6 still on tape,
    7 key or quota, 130 interrupted.
    """
    settings = config.load(
        config_file, download_dir=output_dir, max_concurrent=slots, rate=limit_rate
    )
    # One folder, one ledger, under whatever name it was given.
    folder = Path(settings.download_dir).resolve()
    settings = settings.replace(download_dir=folder)
    selection = planning.Selection(
        planning.folder(folder), include=include or (), exclude=exclude or (), layout=layout,
        source=from_, extract=extract, keep_archive=keep_archive, members=members or (),
        portal_ranges=portal_ranges,
    )  # fmt: skip
    wanted = searches.search_of(
        collection=collection, ids=ids, bbox=bbox, intersects=intersects, start=start, end=end,
        cloud_cover=cloud_cover, tile=tile, query=query,
    )  # fmt: skip
    if (wanted is None) is not bool(source):
        raise ConfigError("SOURCE", "give files, or a search such as --collection, one of the two")
    found = None

    def empty() -> dict[str, Any]:
        if dry_run:
            return Plan(Quote.of(Price(), settings)).to_dict()
        return _status_object(Batch("", conf=settings, is_empty=True))

    if wanted is None:
        items = _items(source or [], settings, empty if as_json else None)
        planned = planning.plan(items, selection)
    else:
        found = searches.confirmed(wanted, settings, ask_above=ask_above, yes=yes or dry_run)
        planned = planning.plan(found, selection)
    if dry_run:
        _show_plan(planned, settings, as_json=as_json)
    # A folder that cannot be written fails here, before a server and a worker start.
    try:
        disk.probe(selection.folder)
    except (DiskError, NotAFileError) as error:
        remedy = "Free space, make the folder writable, or choose another one with -o."
        raise ConfigError("--output-dir", str(error), remedy) from error
    checked = runs.check_key(planned, settings)
    try:
        with (
            _forgotten(),
            runs.begun(checked, selection.folder, settings, on_price=_show_price) as run,
        ):
            _check_receipt(run, as_json=as_json)
            try:
                picture = view(stderr, quiet=no_progress)
                run.watch(picture, write=write_line, max_wait_s=max_wait)
            except KeyboardInterrupt:
                write_line("interrupted: stopping")
                run.stop()
                left = ""
                with contextlib.suppress(LedgerError):  # a stopped service ends the server, too
                    left = f"{run.left()}; "
                write_line(f"{left}the same command again continues")
                raise typer.Exit(INTERRUPTED) from None
            # Known once the search was read to its end.
            is_whole = not (found and (found.missing or found.is_cut))
            _finish(run, as_json=as_json, is_whole=is_whole)
    except KeyboardInterrupt:
        # While the items are read and admitted.
        write_line("interrupted; the same command again continues")
        raise typer.Exit(INTERRUPTED) from None


def enqueue(
    source: options.Required,
    output_dir: options.Folder = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    layout: options.Layout = DEFAULT_LAYOUT,
    from_: options.From = "auto",
    extract: options.Extract = False,
    keep_archive: options.KeepArchive = False,
    members: options.Members = None,
    portal_ranges: options.PortalRanges = False,
    batch_name: Annotated[str | None, typer.Option("--batch", help="A name for the batch.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over.")] = False,
    as_json: AsJson = False,
    no_progress: options.Quiet = False,
    config_file: ConfigFile = None,
    account: options.OfAccount = None,
    priority: options.Priority = None,
    weight: options.Weight = None,
    max_wait: options.MaxWait = None,
) -> None:
    """Queue items for the workers of a cluster, and print the batch.

    The cluster is that of GEODES_TASKS_REDIS_URL. Enqueueing is idempotent.

    Examples: geodes-tasks enqueue items.json -o /data/april --batch april;
    geodes-tasks search -c PEPS_S2_L1C -o - | geodes-tasks enqueue - -o /data/april --wait
    """
    settings = config.load(config_file, download_dir=output_dir, account=account)
    require_cluster(settings, "enqueue")
    named_key(settings.account)
    selection = planning.Selection(
        planning.folder(settings.download_dir), include=include or (), exclude=exclude or (),
        layout=layout, source=from_, extract=extract, keep_archive=keep_archive,
        members=members or (), portal_ranges=portal_ranges,
    )  # fmt: skip
    rank = enqueue_admission.rank_of(priority, weight)
    if batch_name:
        enqueue_admission.check_batch_name(batch_name)
    name = batch_name or ""

    def empty() -> dict[str, Any]:
        if wait:
            return _status_object(Batch(name, conf=settings, is_empty=True))
        return Receipt(name).to_dict()

    planned = planning.plan(_items(source, settings, empty if as_json else None), selection)
    folder = selection.folder
    run = runs.admitted(planned, settings, batch_name, None, rank, folder, _show_price)
    if as_json and not wait:
        write_data(run.receipt.to_dict())
    _check_receipt(run, as_json=as_json and wait)
    if not wait:
        if not as_json:
            write_data(run.batch.id)
        return
    with _forgotten():
        run.watch(view(stderr, quiet=no_progress), write=write_line, max_wait_s=max_wait)
        _finish(run, as_json=as_json)


@contextlib.contextmanager
def _forgotten() -> Iterator[None]:
    """End the command when its batch is forgotten meanwhile, which cancels what is left of it."""
    try:
        yield
    except UnknownBatchError as error:
        write_line(f"batch {error.name} was forgotten meanwhile; files stay")
        raise typer.Exit(exit_codes.CANCELLED) from None


def _items(
    source: list[str], settings: Config, empty: Callable[[], dict[str, Any]] | None
) -> Iterator[Found]:
    """Yield the items of the sources; where they hold none, write the object for that first."""
    try:
        yield from searches.items_of(source, settings)
    except NoItemsError:
        if empty is not None:
            write_data(empty())
        raise


def _show_plan(planned: Iterator[Planned], settings: Config, *, as_json: bool) -> NoReturn:
    plan = dry_runs.dry_run(planned, settings)
    groups: dict[str, FailureGroup] = {}
    add_by_class(groups, plan.refused)
    _write_failures(groups.values(), "the same command with --json")
    if as_json:
        write_data(plan.to_dict())
    else:
        for row in plan.downloads:
            bytes_of = row["bytes_to_fetch" if row["by_ranges"] else "size_bytes"]
            size = "present" if row["present"] else human_bytes(bytes_of)
            write_data(f"{size:>12}  {row['path']}")
    _show_price(plan.quote)
    if plan.refused:
        write_line(f"{len(plan.refused)} refused")
    unknown = sum(isinstance(one.error, ItemNotFoundError) for one in plan.refused)
    if not plan.downloads and len(plan.refused) == unknown:
        raise typer.Exit(exit_codes.NOTHING)
    raise typer.Exit(exit_codes.SOME_FAILED if plan.refused else 0)


def _show_price(quote: Quote) -> None:
    for line in quote.lines():
        write_line(line)


def _write_failures(
    groups: Iterable[FailureGroup],
    all_of_them: str,
    batch: str = "BATCH",
    folder: Path | None = None,
) -> None:
    for line in failure_lines(groups, all_of_them, batch, folder):
        write_line(line)


def _report_command(run: Run) -> str:
    """Return the command that prints every record of a run."""
    words = ["geodes-tasks", "report", run.batch.id]
    return f"`{shlex.join([*words, '-o', str(run.machine.folder)] if run.machine else words)}`"


def _check_receipt(run: Run, *, as_json: bool) -> None:
    """Name what was refused, by class; end the command where there is nothing to download."""
    _write_failures(run.receipt.refusals.values(), _report_command(run))
    if not run.receipt.downloads:
        write_line("nothing to download: the source holds no items")
        if as_json:
            write_data(_status_object(run.batch))
        raise typer.Exit(exit_codes.NOTHING)


def _status_object(batch: Batch, folder: Path | None = None) -> dict[str, Any]:
    """Return the object of ``status --json``; a batch of nothing is not in the ledger."""
    status = batch.status()
    snapshot = Snapshot(time.time(), [status])
    if status.total:
        snapshot = SnapshotReader(batch.ledger, [batch.id], folder=folder).read()
    return snapshot.status_object(snapshot.batches[0])


def _finish(run: Run, *, as_json: bool, is_whole: bool = True) -> NoReturn:
    """Print the result and the failures, and exit with the code of the batch.

    Items that the portal counted and did not deliver are failures too.
    """
    status = run.batch.status()
    write_line(summary(status))
    has_errors = status.states["FAILURE"] or status.waiting
    failures = run.batch.ledger.reading.failures(run.batch.id) if has_errors else []
    # Items that were refused when they were enqueued were named then.
    named = [one for one in failures if not one.is_refused]
    _write_failures(named, _report_command(run), run.batch.id, run.folder)
    if as_json:
        write_data(_status_object(run.batch, run.folder))
    # A batch whose downloads others have too is empty when it is cancelled.
    code = exit_codes.exit_code(status, failures) if status.total else exit_codes.CANCELLED
    if code and run.machine is not None and run.machine.workers:
        write_line(f"the log of this run's worker: {run.machine.worker_log}")
    raise typer.Exit(code if code or is_whole else exit_codes.SOME_FAILED)
