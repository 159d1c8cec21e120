"""The commands ``download`` and ``enqueue``: items in, verified files out, here or on a cluster."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from geodes_tasks.cli import search as searches
from geodes_tasks.cli.options import AsJson, ConfigFile
from geodes_tasks.cli.output import stderr, write_data, write_error, write_line
from geodes_tasks.client import dry_run as dry_runs
from geodes_tasks.client import enqueue_admission, exit_codes, ledgers, planning
from geodes_tasks.client import run as runs
from geodes_tasks.client.enqueue_admission import Receipt
from geodes_tasks.client.planning import Planned, Selection
from geodes_tasks.client.price import Quote
from geodes_tasks.client.run import Run, failure_lines
from geodes_tasks.errors import (
    ConfigError,
    DiskError,
    GeodesTasksError,
    ItemNotFoundError,
    NotAFileError,
)
from geodes_tasks.model.asset import Unpack
from geodes_tasks.model.formatting import human_bytes, seconds_of
from geodes_tasks.monitoring.loading import load_view
from geodes_tasks.monitoring.snapshot import SnapshotReader
from geodes_tasks.monitoring.terminal import view
from geodes_tasks.monitoring.wording import summary
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import named_key
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer import disk
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 plus the number of SIGINT, as bash(1) reports it."""
SOURCES = "STAC JSON files, - for standard input, ids of items or product names"
EXAMPLES, MOST_CLASSES = 3, 6
"""Number of items named for one class of errors, and number of classes, at most."""
Required = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", show_default=False, help=f"{SOURCES}.")
]
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...", show_default=False, help=f"{SOURCES}; or a search (options below)."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", "-i", show_default=False,
        help="Download assets whose key matches this glob [default: data, no XML].",
    ),
]  # fmt: skip
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", "-x", show_default=False, help="Leave out assets whose key matches this glob."
    ),
]
Layout = Annotated[
    str, typer.Option("--layout", help="Path below the folder, e.g. {collection}/{item}/{title}.")
]
From = Annotated[
    Literal["auto", "s3", "geodes"],
    typer.Option("--source", help="Where the bytes come from; auto prefers S3."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", "-o", show_default=False,
        help="The download folder [GEODES_TASKS_DOWNLOAD_DIR; default: the current folder].",
    ),
]  # fmt: skip
MaxWait = Annotated[
    float | None,
    typer.Option(
        "--max-wait", parser=seconds_of, metavar="DURATION", show_default=False,
        help="Wait so long for files on tape when nothing else is left: 90, 15m, 2h; then exit "
        "code 6.",
    ),
]  # fmt: skip
OfAccount = Annotated[
    str | None,
    typer.Option(
        "--account", show_default=False,
        help="The account; workers have its key [GEODES_TASKS_ACCOUNT; default: default].",
    ),
]  # fmt: skip
Priority = Annotated[
    int | None,
    typer.Option(
        "--priority", min=-9, max=9, show_default=False,
        help="Batches of a higher priority start first [default: 0].",
    ),
]  # fmt: skip
Weight = Annotated[
    int | None,
    typer.Option(
        "--weight", min=1, max=100, show_default=False,
        help="Share of download slots relative to other batches [default: 1].",
    ),
]  # fmt: skip
Slots = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, show_default=False,
        help="Transfers at once [GEODES_TASKS_MAX_CONCURRENT; default: 4].",
    ),
]  # fmt: skip
Extract = Annotated[
    bool, typer.Option("--extract", help="Unpack zip archives into folders of their name.")
]
KeepArchive = Annotated[
    bool, typer.Option("--keep-archive", help="With --extract: keep the archives too.")
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--limit-rate", show_default=False, metavar="RATE",
        help="Bytes a second of the whole run: 20MB, 500kB [GEODES_TASKS_RATE; default: no limit].",
    ),
]  # fmt: skip
Quiet = Annotated[bool, typer.Option("--no-progress", help="Show no progress.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    epilog = (
        "Examples: geodes-tasks download items.json -o DIR; "
        "geodes-tasks download -c PEPS_S2_L1C --tile T31TCJ --start 2025-04-01 -o DIR. "
        "Exit codes: 0 done, 2 usage, 3 some failed, 4 nothing to download, 5 only transient "
        "failures, 6 still on tape, 7 key or quota, 130 interrupted."
    )
    app.command(epilog=epilog)(download)
    epilog = (
        "Examples: geodes-tasks enqueue items.json -o /data/april --batch april; "
        "geodes-tasks search -c PEPS_S2_L1C -o - | geodes-tasks enqueue - -o /data/april --wait"
    )
    app.command(epilog=epilog)(enqueue)


def download(
    source: Files = None,
    output_dir: Folder = None,
    include: Include = None,
    exclude: Exclude = None,
    layout: Layout = DEFAULT_LAYOUT,
    from_: From = "auto",
    extract: Extract = False,
    keep_archive: KeepArchive = False,
    slots: Slots = None,
    limit_rate: Rate = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be downloaded.")
    ] = False,
    as_json: AsJson = False,
    no_progress: Quiet = False,
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
    yes: searches.Yes = False,
    max_wait: MaxWait = None,
) -> None:
    """Download items on this machine; nothing needs installing or configuring first.

    The same command again continues where the last one stopped.
    """
    settings = config.load(
        config_file, download_dir=output_dir, max_concurrent=slots, rate=limit_rate
    )
    # One folder, one ledger, under whatever name it was given.
    folder = Path(settings.download_dir).resolve()
    settings = settings.model_copy(update={"download_dir": folder})
    unpack = planning.unpacking(extract=extract, keep_archive=keep_archive)
    selection = _selection(settings, include, exclude, layout, from_, unpack)
    wanted = searches.search_of(
        collection=collection, ids=ids, bbox=bbox, intersects=intersects, start=start, end=end,
        cloud_cover=cloud_cover, tile=tile, query=query,
    )  # fmt: skip
    if (wanted is None) is not bool(source):
        raise ConfigError("SOURCE", "give files, or a search such as --collection, one of the two")
    found = None
    if wanted is None:
        planned = planning.plan(searches.items_of(source or [], settings), selection)
    else:
        found = searches.confirmed(wanted, settings, ask_above=ask_above, yes=yes or dry_run)
        planned = planning.plan(found, selection)
    if dry_run:
        _show_plan(planned, settings, as_json=as_json)
    # A folder that cannot be written fails here, before a server and a worker start.
    try:
        disk.probe(selection.folder)
    except (DiskError, NotAFileError) as error:
        raise ConfigError("--output-dir", str(error), error.hint) from error
    checked = runs.check_key(planned, settings)
    on_load, folder = load_view(stderr, quiet=no_progress), selection.folder
    try:
        with runs.on_this_machine(checked, folder, settings, None, on_load, _show_price) as run:
            _check_receipt(run.receipt)
            try:
                picture = view(stderr, quiet=no_progress)
                run.watch(picture, write=write_line, max_wait_s=max_wait)
            except KeyboardInterrupt:
                write_line("interrupted: stopping")
                run.stop()
                write_line(f"{run.left()}; the same command again continues")
                raise typer.Exit(INTERRUPTED) from None
            # Known once the search was read to its end.
            is_whole = not (found and (found.missing or found.is_cut))
            _finish(run, as_json=as_json, is_whole=is_whole)
    except KeyboardInterrupt:
        # While the items are read and admitted.
        write_line("interrupted; the same command again continues")
        raise typer.Exit(INTERRUPTED) from None


def enqueue(
    source: Required,
    output_dir: Folder = None,
    include: Include = None,
    exclude: Exclude = None,
    layout: Layout = DEFAULT_LAYOUT,
    from_: From = "auto",
    extract: Extract = False,
    keep_archive: KeepArchive = False,
    batch_name: Annotated[str | None, typer.Option("--batch", help="A name for the batch.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over.")] = False,
    as_json: AsJson = False,
    no_progress: Quiet = False,
    config_file: ConfigFile = None,
    account: OfAccount = None,
    priority: Priority = None,
    weight: Weight = None,
    max_wait: MaxWait = None,
) -> None:
    """Queue items for the workers of a cluster, and print the batch.

    The cluster is that of GEODES_TASKS_REDIS_URL. Enqueueing is idempotent.
    """
    settings = config.load(config_file, download_dir=output_dir, account=account)
    ledgers.require_cluster(settings, "enqueue")
    named_key(settings.account)
    unpack = planning.unpacking(extract=extract, keep_archive=keep_archive)
    selection = _selection(settings, include, exclude, layout, from_, unpack)
    rank = enqueue_admission.rank_of(priority, weight)
    planned = planning.plan(searches.items_of(source, settings), selection)
    folder = selection.folder
    run = runs.admitted(planned, settings, batch_name, None, rank, folder, _show_price)
    _check_receipt(run.receipt)
    if not wait:
        write_data(run.receipt.to_dict() if as_json else run.batch.id)
        return
    picture = view(stderr, quiet=no_progress)
    run.watch(picture, write=write_line, max_wait_s=max_wait)
    _finish(run, as_json=as_json)


def _selection(
    settings: Config,
    include: list[str] | None,
    exclude: list[str] | None,
    layout: str,
    source: str,
    unpack: Unpack,
) -> Selection:
    folder = planning.folder(settings.download_dir)
    return Selection(folder, tuple(include or ()), tuple(exclude or ()), layout, source, unpack)


def _show_plan(planned: Iterator[Planned], settings: Config, *, as_json: bool) -> NoReturn:
    plan = dry_runs.dry_run(planned, settings)
    for _, error in plan.refused:
        write_error(error)
    if as_json:
        write_data(plan.to_dict())
    else:
        for row in plan.downloads:
            size = "present" if row["present"] else human_bytes(row["size_bytes"])
            write_data(f"{size:>12}  {row['path']}")
    _show_price(plan.quote)
    if plan.refused:
        write_line(f"{len(plan.refused)} refused")
    unknown = sum(isinstance(error, ItemNotFoundError) for _, error in plan.refused)
    if not plan.downloads and len(plan.refused) == unknown:
        raise typer.Exit(exit_codes.NOTHING)
    raise typer.Exit(exit_codes.SOME_FAILED if plan.refused else 0)


def _show_price(quote: Quote) -> None:
    for line in quote.lines():
        write_line(line)


def _check_receipt(receipt: Receipt) -> None:
    """Name what was refused, by class; end the command where there is nothing to download."""
    classes: dict[type[GeodesTasksError], list[GeodesTasksError]] = {}
    for error in receipt.errors:
        classes.setdefault(type(error), []).append(error)
    for errors in list(classes.values())[:MOST_CLASSES]:
        named = errors[:1] if len(errors) > EXAMPLES else errors
        for error in named:
            write_error(error)
        if more := len(errors) - len(named):
            names = ", ".join(str(error.args[0]) for error in errors[1:EXAMPLES])
            write_line(f"  and {more} more of this kind, for example {names}")
    unnamed = receipt.admissions["refused"] - len(receipt.errors)
    if unnamed > 0:
        batch = shlex.quote(receipt.batch)
        write_line(f"and {unnamed} more refused: see geodes-tasks report {batch}")
    if not receipt.downloads:
        write_line("nothing to download: the source holds no items")
        raise typer.Exit(exit_codes.NOTHING)


def _finish(run: Run, *, as_json: bool, is_whole: bool = True) -> NoReturn:
    """Print the result and the failures, and exit with the code of the batch.

    Items that the portal counted and did not deliver are failures too.
    """
    status = run.batch.status()
    write_line(summary(status))
    has_errors = status.states["FAILURE"] or status.waiting
    failures = run.batch.ledger.reading.failures(run.batch.id) if has_errors else []
    # Items that were refused when they were enqueued were named then.
    for line in failure_lines(group for group in failures if not group.is_refused):
        write_line(line)
    if as_json:
        snapshot = SnapshotReader(run.batch.ledger, [run.batch.id]).read()
        write_data(snapshot.status_object(snapshot.batches[0]))
    code = exit_codes.exit_code(status, failures)
    if code and run.machine is not None:
        write_line(f"the log of this run's worker: {run.machine.worker_log}")
    raise typer.Exit(code if code or is_whole else exit_codes.SOME_FAILED)
