"""Options and arguments that several commands have, with the completion of their values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from geodes_tasks.cli.output import write_line
from geodes_tasks.client import exit_codes, ledgers
from geodes_tasks.client.batch import Batch, batches
from geodes_tasks.client.ledgers import OpenLedger
from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.model.formatting import seconds_of
from geodes_tasks.settings import config
from geodes_tasks.settings.quota import parse_rate

option, argument = (partial(one, show_default=False) for one in (typer.Option, typer.Argument))
"""An option and an argument whose help names the default itself, or that have none."""

_PLAIN_WORD = re.compile(r"\w[\w.,:@%+=/-]*")
"""A word that means itself in every shell, and is no option."""


def complete_batch(incomplete: str) -> list[str]:
    """Return the names of batches for the completion of a shell; none where no Redis answers.

    A name with a character that a shell obeys is left out: zsh would run a command in it at once.
    """
    # The shell shows every line that is printed here as a completion: an error prints nothing.
    try:
        names = [one.id for one in batches()]
    except GeodesTasksError:
        return []
    return [one for one in names if one.startswith(incomplete) and _PLAIN_WORD.fullmatch(one)]


def rate_text(text: str) -> str:
    """Return the text of a bandwidth: ``off`` is one too, and wins over the environment.

    Raises:
        ValueError: it is none.
    """
    parse_rate(text)
    return text


AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
BatchName = Annotated[
    str | None,
    argument(
        metavar="BATCH",
        autocompletion=complete_batch,
        help="Name of a batch [default: the newest].",
    ),
]
BatchNames = Annotated[
    list[str] | None,
    argument(metavar="BATCH...", autocompletion=complete_batch, help="Names of batches."),
]
ConfigFile = Annotated[Path | None, option("--config", help="A configuration file to read.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Change without a confirmation; for scripts.")
]
OutputDir = Annotated[
    Path | None,
    option(
        "--output-dir",
        "-o",
        help="The one-machine downloads to this folder [default: the cluster of "
        "GEODES_TASKS_REDIS_URL, else the last run on this machine].",
    ),
]
SOURCES = "STAC JSON files, - for standard input, ids of items or product names"
Required = Annotated[list[str], argument(metavar="SOURCE...", help=f"{SOURCES}.")]
Files = Annotated[
    list[str] | None, argument(metavar="SOURCE...", help=f"{SOURCES}; or a search (options below).")
]
Include = Annotated[
    list[str] | None,
    option(
        "--include",
        "-i",
        help="Download assets whose key matches this glob [default: data, no XML].",
    ),
]
Exclude = Annotated[
    list[str] | None,
    option("--exclude", "-x", help="Leave out assets whose key matches this glob."),
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
    option(
        "--output-dir",
        "-o",
        help="The download folder [GEODES_TASKS_DOWNLOAD_DIR; default: the current folder].",
    ),
]
MaxWait = Annotated[
    float | None,
    option(
        "--max-wait",
        parser=seconds_of,
        metavar="DURATION",
        help="Wait so long for files on tape when nothing else is left: 90, 15m, 2h; then exit "
        "code 6.",
    ),
]
OfAccount = Annotated[
    str | None,
    option(
        "--account",
        help="The account; workers have its key [GEODES_TASKS_ACCOUNT; default: default].",
    ),
]
Priority = Annotated[
    int | None,
    option(
        "--priority", min=-9, max=9, help="Batches of a higher priority start first [default: 0]."
    ),
]
Weight = Annotated[
    int | None,
    option(
        "--weight",
        min=1,
        max=100,
        help="Share of download slots relative to other batches [default: 1].",
    ),
]
Slots = Annotated[
    int | None,
    option(
        "--jobs", "-j", min=1, help="Transfers at once [GEODES_TASKS_MAX_CONCURRENT; default: 4]."
    ),
]
Extract = Annotated[
    bool, typer.Option("--extract", help="Unpack zip archives into folders of their name.")
]
KeepArchive = Annotated[
    bool,
    typer.Option("--keep-archive", help="With --extract or --members: keep the archives too."),
]
Members = Annotated[
    list[str] | None,
    typer.Option(
        "--members", show_default=False, metavar="GLOB",
        help="Fetch only members of zip archives that match, e.g. '*_B04_10m.jp2'.",
    ),
]  # fmt: skip
PortalRanges = Annotated[
    bool,
    typer.Option(
        "--portal-ranges",
        help="With --members: fewer bytes from the portal, one unit of quota for each range.",
    ),
]
Rate = Annotated[
    str | None,
    option(
        "--limit-rate",
        parser=rate_text,
        metavar="RATE",
        help="Bytes a second of the whole run: 20MB, 500kB [GEODES_TASKS_RATE; default: no limit].",
    ),
]
Quiet = Annotated[bool, typer.Option("--no-progress", help="Show no progress.")]


@contextlib.contextmanager
def open_ledger(output_dir: Path | None, batch: str | None = None) -> Iterator[OpenLedger]:
    """Yield the ledger that a command means; a line names one that the user did not name.

    Raises:
        ConfigError, UnknownBatchError: there is no such ledger.
    """
    with ledgers.selected(config.load(), output_dir, batch, write_line) as found:
        yield found


def open_batch(name: str | None, found: OpenLedger) -> Batch:
    """Return the batch of a name; without a name the newest, which a line names.

    Raises:
        UnknownBatchError: there is none of this name.
        typer.Exit: there is none at all.
    """
    known = [] if name else found.ledger.reading.batches()
    if not (name or known):
        write_line("no batch in the ledger yet")
        raise typer.Exit(exit_codes.NOTHING)
    if not name:
        write_line(f"batch {known[0]}, the newest")
    opened = Batch(name or known[0], found.ledger, found.conf)
    opened.status()
    return opened
