"""The command line: parse, call, print, exit codes. Progress and logs to stderr, data to stdout."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler

from geodes_tasks import (
    admission,
    cli_doctor,
    cli_metrics,
    cli_report,
    cli_search,
    cli_verify,
    cli_watch,
    config,
    partfile,
    sources,
)
from geodes_tasks import batch as batches
from geodes_tasks.admission import Selection
from geodes_tasks.app import Sender
from geodes_tasks.batch import Batch
from geodes_tasks.destination import DEFAULT_LAYOUT
from geodes_tasks.embedded import OneMachine
from geodes_tasks.errors import (
    ConfigError,
    DiskError,
    GeodesTasksError,
    NoItemsError,
    NotAFileError,
    SourceError,
)
from geodes_tasks.ledger import Ledger
from geodes_tasks.progress import summary, view
from geodes_tasks.states import Reason, State
from geodes_tasks.steering import Steering
from geodes_tasks.text import human_bytes
from geodes_tasks.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.admission import Planned, Receipt
    from geodes_tasks.config import Settings
    from geodes_tasks.results import BatchStatus, ErrorInfo

USAGE, UNCLASSIFIED, INTERRUPTED = 2, 1, 130
POLL_S = 0.25

app = typer.Typer(
    name="geodes-tasks",
    help="Download items from GEODES: all of them, proven by checksum, without minding a script.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
stderr = Console(stderr=True)


class Source(StrEnum):
    """Where the bytes come from."""

    AUTO = "auto"
    S3 = "s3"
    GEODES = "geodes"


Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help="STAC JSON files; - is standard input.")
]
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]...", help="STAC JSON files; - is standard input; or search (below)."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", "-i", help="Take assets whose key matches this glob."),
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", "-x", help="Leave assets whose key matches out.")
]
Layout = Annotated[
    str, typer.Option("--layout", help="Path below the folder, e.g. {collection}/{item}/{title}.")
]
From = Annotated[Source, typer.Option("--source", help="Where the bytes come from.")]
Folder = Annotated[Path | None, typer.Option("--output-dir", "-o", help="The download folder.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A pygeodes-config.json elsewhere.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--no-progress", help="Show no progress.")]
BatchName = Annotated[str | None, typer.Argument(metavar="[BATCH]", help="Default: the newest.")]


# --- download: one machine ---------------------------------------------------------------------


@app.command()
def download(
    source: Files = None,
    output_dir: Folder = None,
    include: Include = None,
    exclude: Exclude = None,
    layout: Layout = DEFAULT_LAYOUT,
    from_: From = Source.AUTO,
    slots: Annotated[int | None, typer.Option("-j", min=1, help="Transfers at once.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: AsJson = False,
    no_progress: Quiet = False,
    config_file: ConfigFile = None,
    collection: cli_search.Collections = None,
    bbox: cli_search.Bbox = None,
    intersects: cli_search.Intersects = None,
    start: cli_search.Start = None,
    end: cli_search.End = None,
    cloud_cover: cli_search.CloudCover = None,
    tile: cli_search.Tile = None,
    query: cli_search.Query = None,
    ask_above: cli_search.AskAbove = cli_search.ASK_ABOVE,
    yes: cli_search.Yes = False,
) -> None:
    """Download on this machine; nothing needs installing or configuring first.

    The same command again goes on where the last one stopped.
    """
    settings = config.load(config_file, download_dir=output_dir, max_concurrent=slots)
    # One folder, one ledger, under whatever name it was given.
    folder = settings.download_dir.expanduser().resolve()
    settings = settings.model_copy(update={"download_dir": folder})
    selection = _selection(settings, include, exclude, layout, from_)
    wanted = cli_search.asked(
        collection=collection, bbox=bbox, intersects=intersects, start=start, end=end,
        cloud_cover=cloud_cover, tile=tile, query=query,
    )  # fmt: skip
    if (wanted is None) is not bool(source):
        raise ConfigError("SOURCE", "give files, or a search such as --collection, one of the two")
    if wanted is None:
        planned = _planned(source or [], selection)
    else:
        found = cli_search.agreed(wanted, settings, ask_above=ask_above, yes=yes or dry_run)
        planned = admission.plan(found.items, selection)
    if dry_run:
        _show_plan(planned, as_json=as_json)
        return
    _require_folder(selection.folder)
    with OneMachine(settings, selection.folder) as machine:
        receipt = _admit(planned, machine.settings, None)
        batch = Batch(receipt.batch, Ledger.of(machine.settings))
        try:
            if batch.status().unfinished:
                machine.start_worker()
            _watch(batch, machine.settings, quiet=no_progress, check=machine)
        except KeyboardInterrupt:
            stderr.print("interrupted: stopping", highlight=False)
            machine.stop_worker()
            _say_what_is_left(batch)
            raise typer.Exit(INTERRUPTED) from None
        _finish(batch, as_json=as_json)


def _selection(
    settings: Settings,
    include: list[str] | None,
    exclude: list[str] | None,
    layout: str,
    source: Source,
) -> Selection:
    folder = admission.folder(settings.download_dir)
    return Selection(folder, tuple(include or ()), tuple(exclude or ()), layout, str(source))


def _require_folder(folder: Path) -> None:
    try:
        partfile.probe(folder)
    except (DiskError, NotAFileError) as error:
        raise ConfigError("--output-dir", str(error), error.hint) from error


def _planned(names: list[str], selection: Selection) -> Iterator[Planned]:
    """Plan the items of all sources; a source that cannot be read at all ends the command."""
    for name in names:
        yield from admission.plan(sources.read(name), selection)


def _admit(planned: Iterator[Planned], settings: Settings, name: str | None) -> Receipt:
    ledger = Ledger.of(settings)
    ledger.ping()
    receipt = admission.admit(
        planned, name or admission.new_batch_name(), settings.account, ledger, Sender(settings)
    )
    for error in receipt.errors:
        _complain(error)
    unnamed = receipt.admissions["refused"] - len(receipt.errors)
    if unnamed > 0:
        stderr.print(f"and {unnamed} more refused: see geodes-tasks report {receipt.batch}")
    if not receipt.downloads:
        stderr.print("nothing to download: the source holds no items")
        raise typer.Exit(batches.NOTHING)
    return receipt


def _watch(batch: Batch, settings: Settings, *, quiet: bool, check: OneMachine | None) -> None:
    """Show progress until the batch is over, or nothing can go on without somebody."""
    ledger = Ledger.of(settings)
    told: set[str] = set()
    with view(stderr, quiet=quiet) as picture:
        while True:
            status = batch.status()
            _tell_new_waits(status, batch, ledger, told)
            picture.show(status, ledger.running() if status.unfinished and not quiet else [])
            if not status.unfinished or _is_stuck(status, alone=check is not None):
                return
            if check is not None and check.worker is not None:
                check.check()
            time.sleep(POLL_S)


def _tell_new_waits(status: BatchStatus, batch: Batch, ledger: Ledger, told: set[str]) -> None:
    """Say once for each reason why downloads wait, with the first one's error and hint."""
    for reason in set(status.waiting) - told:
        told.add(reason)
        first = next((one for one in ledger.records(batch.id) if one.reason == reason), None)
        if first is not None and first.error is not None:
            _say(f"waits ({reason})", first.error)


def _say(word: str, error: ErrorInfo) -> None:
    text = f"{word}: {error.message.rstrip('.')}. {error.hint}".rstrip()
    stderr.print(text, highlight=False, markup=False, soft_wrap=True)


def _is_stuck(status: BatchStatus, *, alone: bool) -> bool:
    """Tell whether all that is left waits for a new key, or, on one machine, for the tape."""
    waiting = status.waiting.get(Reason.AUTH, 0)
    if waiting and not status.states[State.STARTED]:
        return True
    return alone and status.waiting.get(Reason.OFFLINE, 0) == status.unfinished


def _say_what_is_left(batch: Batch) -> None:
    status = batch.status()
    left = human_bytes(max(status.bytes_total - status.bytes_done, 0))
    stderr.print(
        f"{status.unfinished} of {status.total} downloads ({left}) are left; "
        "the same command again goes on",
        highlight=False,
    )


def _finish(batch: Batch, *, as_json: bool) -> NoReturn:
    """Say how it ended, name what failed, and exit with the code that tells."""
    status = batch.status()
    stderr.print(summary(status) + _how(status), highlight=False)
    if status.states[State.FAILURE] or status.waiting:
        _name_failures(batch)
    if as_json:
        print(json.dumps(status.to_dict()))  # noqa: T201 - data goes to stdout
    raise typer.Exit(batches.exit_code(status, batch.results() if status.states["FAILURE"] else []))


_NAMED = frozenset({State.FAILURE, State.RETRY})


def _how(status: BatchStatus) -> str:
    outcomes = [f"{count} {name}" for name, count in status.outcomes.items() if count]
    return f" ({', '.join(outcomes)})" if outcomes else ""


def _name_failures(batch: Batch, most: int = 20) -> None:
    named = 0
    for record in batch.results():
        # What has no path was refused at the door, and named there.
        if record.error is not None and record.path and record.state in _NAMED:
            named += 1
            if named <= most:
                word = "failed" if record.state is State.FAILURE else f"waits ({record.reason})"
                _say(word, record.error)
    if named > most:
        stderr.print(f"and {named - most} more", highlight=False)


def _show_plan(planned: Iterator[Planned], *, as_json: bool) -> None:
    rows, total, refused = [], 0, 0
    for one in planned:
        for request in one.requests:
            total += request.asset.size_bytes or 0
            rows.append({"path": request.path, "size_bytes": request.asset.size_bytes})
            if not as_json:
                size = human_bytes(request.asset.size_bytes)
                print(f"{size:>12}  {request.path}")  # noqa: T201 - data goes to stdout
        for refusal in one.refusals:
            refused += 1
            _complain(refusal.error)
    if as_json:
        print(json.dumps({"downloads": rows, "bytes_total": total, "refused": refused}))  # noqa: T201
    stderr.print(f"{len(rows)} downloads, {human_bytes(total)}, {refused} refused", highlight=False)
    raise typer.Exit(
        (batches.SOME_FAILED if refused else 0) if rows or refused else batches.NOTHING
    )


# --- enqueue, status, report, watch: a cluster ---------------------------------------------------


@app.command()
def enqueue(
    source: Sources,
    output_dir: Folder = None,
    include: Include = None,
    exclude: Exclude = None,
    layout: Layout = DEFAULT_LAYOUT,
    from_: From = Source.AUTO,
    batch_name: Annotated[str | None, typer.Option("--batch", help="A name for the batch.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over.")] = False,
    as_json: AsJson = False,
    no_progress: Quiet = False,
    config_file: ConfigFile = None,
) -> None:
    """Queue items for the workers of GEODES_TASKS_REDIS_URL; prints the batch id."""
    settings = config.load(config_file, download_dir=output_dir)
    selection = _selection(settings, include, exclude, layout, from_)
    receipt = _admit(_planned(source, selection), settings, batch_name)
    batch = Batch(receipt.batch, Ledger.of(settings))
    if not wait:
        print(json.dumps(receipt.to_dict()) if as_json else receipt.batch)  # noqa: T201
        return
    _watch(batch, settings, quiet=no_progress, check=None)
    _finish(batch, as_json=as_json)


@app.command()
def status(batch_name: BatchName = None, as_json: AsJson = False) -> None:
    """Count what is done, running, waiting and why."""
    batch = _batch(batch_name)
    counts = batch.status()
    if as_json:
        print(json.dumps(counts.to_dict()))  # noqa: T201 - data goes to stdout
        return
    amount = f"{human_bytes(counts.bytes_done)} of {human_bytes(counts.bytes_total)}"
    print(f"{batch.id}: {summary(counts)}{_how(counts)}; {amount}")  # noqa: T201


@app.command()
def retry(
    batch_name: BatchName = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--class", help="Only failures of this error class.")
    ] = None,
) -> None:
    """Ask again for what failed."""
    begun = Steering(config.load()).retry(_batch(batch_name).id, kinds or ())
    stderr.print(f"{begun} downloads begin anew", highlight=False)


@app.command()
def cancel(batch_name: BatchName = None) -> None:
    """Cancel a batch: what has not started never will, what runs stops."""
    cancelled = Steering(config.load()).cancel(_batch(batch_name).id)
    stderr.print(f"{cancelled} downloads are cancelled", highlight=False)


Account = Annotated[str, typer.Argument(help="The account.")]


@app.command()
def pause(account: Account = "default") -> None:
    """Hold an account: what runs ends by itself, nothing new starts."""
    began = Steering(config.load()).pause(account)
    stderr.print(f"{account}: {'paused' if began else 'was paused already'}", highlight=False)


@app.command()
def resume(account: Account = "default") -> None:
    """Let a paused account go on, for example after its key was replaced."""
    was = Steering(config.load()).resume(account)
    stderr.print(f"{account}: {'goes on' if was else 'was not paused'}", highlight=False)


def _batch(name: str | None) -> Batch:
    ledger = Ledger.of(config.load())
    names = [name] if name else ledger.batches()
    if not names:
        stderr.print("no batch in the ledger yet")
        raise typer.Exit(batches.NOTHING)
    return Batch(names[0], ledger)


# --- processes -----------------------------------------------------------------------------------

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASS_ON)
def worker(context: typer.Context) -> None:
    """Start a worker; further arguments go to `celery worker`."""
    _become_celery("worker", context.args)


@app.command(context_settings=_PASS_ON)
def flower(context: typer.Context) -> None:
    """Start Flower; further arguments go to `celery flower`."""
    _become_celery("flower", context.args)


def _become_celery(command: str, arguments: list[str]) -> NoReturn:
    config.load()  # say what is wrong with the settings before celery does
    os.execv(  # noqa: S606 - no shell
        sys.executable, [sys.executable, "-m", "celery", "-A", "worker", command, *arguments]
    )


cli_search.register(app)


# --- the frame -----------------------------------------------------------------------------------


@app.callback()
def frame(
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Log more.")] = 0,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda on: _say_version(on=on))
    ] = False,
) -> None:
    """Set up logging for all commands."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    pretty = RichHandler(console=stderr, show_path=False)
    lines_only: logging.Handler = pretty if stderr.is_terminal else logging.StreamHandler()
    logging.basicConfig(level=level, format="%(message)s", handlers=[lines_only])


def _say_version(*, on: bool) -> None:
    if on:
        print(f"geodes-tasks {__version__}")  # noqa: T201 - data goes to stdout
        raise typer.Exit


def _complain(error: GeodesTasksError) -> None:
    text = f"error: {str(error).rstrip('.')}. {error.hint}".rstrip()
    stderr.print(text, highlight=False, markup=False, soft_wrap=True)


for module in (cli_watch, cli_report, cli_verify, cli_doctor, cli_metrics):
    module.register(app)


def main() -> None:
    """Run the command line; every expected error is one clear line, never a traceback."""
    try:
        app()
    except NoItemsError as error:
        _complain(error)
        sys.exit(batches.NOTHING)
    except (ConfigError, SourceError) as error:
        _complain(error)
        sys.exit(USAGE)
    except GeodesTasksError as error:
        _complain(error)
        sys.exit(UNCLASSIFIED)
