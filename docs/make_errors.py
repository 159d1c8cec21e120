"""Write docs/errors.md from the error classes themselves, so that the two cannot drift apart.

python docs/make_errors.py [FILE]           writes it
python docs/make_errors.py --check [FILE]   only checks that it is up to date
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import made_page

from geodes_tasks import errors
from geodes_tasks.errors import AttemptEndedError, GeodesTasksError, Reaction

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).with_name("errors.md")
OPENING = """\
# Errors

<!-- Made by `python docs/make_errors.py`. Change geodes_tasks/errors, not this page. -->

Every failure is one class, and each class is one thing that you would do differently. The class is
the `error.type` of a record in the report, the text its `error.message`, and what to do its
`error.hint`. `geodes-tasks retry BATCH --class NAME` retries the failures of one class. In Python
all of them are in `geodes_tasks.errors`, below `GeodesTasksError`, in groups that you can catch:
{groups}.

What to do is written below for a shell. In Python `error.hint` and the last line of a traceback
name arguments and calls in place of options and commands: `layout=` and `batch.retry()`.

The texts below are examples. [Troubleshooting](troubles.md) lists the same by symptom.
"""
ENDED = """\
## The end from outside

An attempt that ends like this is no failure: the download continues on another worker or was
cancelled.
"""
HEADINGS = {
    Reaction.TRANSIENT: "Passes by itself",
    Reaction.CORRUPT: "Wrong bytes",
    Reaction.QUOTA: "Quota",
    Reaction.THROTTLED: "Throttled",
    Reaction.AUTH: "Key and trust",
    Reaction.OFFLINE: "On tape",
    Reaction.PAUSED: "Paused source",
    Reaction.LOCAL: "This worker's disk",
    Reaction.FINAL: "Ends for good",
}
SAMPLES: dict[str, object] = {
    "href": "https://geodes-portal.cnes.fr/.../a.zip",
    "url": "redis://redis-host:6379/0",
    "address": "https://geodes-portal.cnes.fr/api/stac/search",
    "path": "/data/a.zip",
    "quarantine": "/data/.geodes-tasks/a.zip.copy",
    "why": "quota",
    "roots": "/data",
    "item": "S2A_MSIL1C_X",
    "other": "S2B_MSIL1C_Y",
    "source": "items.json",
    "what": "bbox [1, 2]",
    "setting": "GEODES_TASKS_QUOTA",
    "key_name": "the key in GEODES_API_KEY, ending in ...1234,",
    "batch": "april",
    "message": "Download quota exceeds",
    "problem": "...",
    "kind": "folder",
    "download_id": "6f9d...",
    "status": 404,
    "retry_after_s": 30.0,
}
"""Values for the examples, by the name of the argument; others are written as their names."""
OF_CLASS: dict[str, tuple[object, ...]] = {
    "TransferError": (SAMPLES["href"], "the connection broke at byte 41943040 (reset by peer)"),
    "UnreachableError": (SAMPLES["href"], "the connection failed (Connection refused)"),
    "RedirectUnreachableError": (
        SAMPLES["href"],
        "the connection failed (Connection refused)",
        "storage.example.org",
    ),
    "StalledError": (SAMPLES["href"], "silent since byte 41943040"),
    "ServerError": (SAMPLES["href"], "HTTP 503: Service unavailable"),
    "TruncatedBodyError": (SAMPLES["href"], 764210185, 41943040),
    "SourceUnavailableError": ("s3", "s3://muscate/a.zip", "the session token has expired"),
    "UnexpectedAnswerError": (SAMPLES["href"], 400, "Bad request"),
    "LedgerUnavailableError": (SAMPLES["url"], "Connection refused"),
    "LedgerSchemaError": (SAMPLES["url"], "1", "2"),
    "LedgerStuckError": (SAMPLES["url"], "command not allowed when used memory > 'maxmemory'."),
    "ChecksumMismatchError": ("/data/a.zip", "md5:86f8...", "md5:1003..."),
    "SizeMismatchError": ("/data/a.zip", 764210185, 764210199),
    "CatalogueMismatchError": ("/data/a.zip", "md5:86f8...", "md5:1003...", SAMPLES["quarantine"]),
    "AuthError": (SAMPLES["href"], SAMPLES["key_name"], "HTTP 401"),
    "KeyMissingError": (SAMPLES["href"], "GEODES_API_KEY", "is not set"),
    "UntrustedServerError": (
        SAMPLES["href"],
        "its TLS certificate is not trusted: self-signed certificate in certificate chain",
    ),
    "OfflineError": (SAMPLES["href"], 410),
    "LicenceError": (SAMPLES["href"], 423),
    "UnknownDownloadError": ("NAME", "", "april"),
    "NoObjectError": ("s3", "s3://muscate/a.zip", "no such object"),
    "ArchivedObjectError": ("s3", "s3://muscate/a.zip", "the object is archived"),
    "SourceRefusedError": ("s3", "s3://muscate/a.zip", "access denied to these credentials"),
    "FolderError": ("s3", "s3://muscate/S2A_X/", "it is a folder there"),
    "ForbiddenError": (
        SAMPLES["href"],
        "the key in GEODES_API_KEY, ending in ...1234,",
        "HTTP 403",
    ),
    "DiskError": ("/data/a.zip", "no space left on device"),
    "TooLargeError": (
        "/data/a.zip",
        "3000000000000 bytes needed, the whole volume has 1000000000000 bytes, "
        "of which 16777216 are kept free",
    ),
    "ConfigError": ("GEODES_TASKS_QUOTA", "'50' is no quota; write 50/hour, 10/20seconds or off"),
    "SourceError": ("items.json", "is not JSON: Expecting value at line 3, column 1"),
    "NoItemsError": ("items.json", "holds no items"),
    "LedgerForbiddenError": (SAMPLES["url"], "user viewer has no permissions to run 'evalsha'"),
    "ItemError": ("S2A_MSIL1C_X", "asset 'a.zip' has no href"),
    "NoDataAssetError": ("S2A_MSIL1C_X", "none of its assets is data (XML apart)"),
    "HostileNameError": ("S2A_MSIL1C_X", "file name '../a' has the part '..', another folder"),
    "HrefRefusedError": ("https://elsewhere.example/a.zip", "elsewhere.example is not the portal"),
    "CatalogueUnavailableError": (SAMPLES["address"], "HTTP 503, no JSON, 6 times"),
    "ArchiveError": ("a.zip", "is no zip archive"),
    "NoRangesError": ("a.zip",),
    "FolderBusyError": ("/data", "4711"),
    "PrivateProcessError": ("worker", "worker.log", "..."),
    "PrivateServerError": (
        "~/.local/state/geodes-tasks/3f2a...",
        "was killed by signal 9; server.log ends with: ...",
    ),
    "TooManyItemsError": (5000, 1000),
    "SourcePausedError": ("a.zip", "s3"),
    "SearchError": ("bbox [1, 2]", "has 2 numbers in place of 4"),
}
"""Values for classes whose text says more with values of its own."""


def page() -> str:
    """Return the whole page."""
    # A new reaction has its own name for a heading until HEADINGS has one.
    headings = HEADINGS | {one: str(one) for one in Reaction if one not in HEADINGS}
    sections = [_section(reaction, heading) for reaction, heading in headings.items()]
    ended = "\n".join([ENDED, *_table(known(AttemptEndedError))])
    groups = ", ".join(f"`{one.__name__}`" for one in GeodesTasksError.__subclasses__())
    return "\n".join([OPENING.format(groups=groups), *sections, ended]) + "\n"


def _section(reaction: Reaction, heading: str) -> str:
    table = [
        one
        for one in known(GeodesTasksError)
        if one.reaction is reaction and not issubclass(one, AttemptEndedError)
    ]
    return "\n".join([f"## {heading}\n", f"{meanings()[reaction.name]}\n", *_table(table)]) + "\n"


def _table(classes: list[type[GeodesTasksError]]) -> Iterator[str]:
    yield "| class | what it means | what you see | what to do |"
    yield "|---|---|---|---|"
    for one in classes:
        meaning = (inspect.getdoc(one) or "").partition("\n")[0]
        seen = example(one)
        yield f"| `{one.__name__}` | {meaning} | {_cell(str(seen))} | {_cell(seen.remedy)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("*", "\\*")


def known(base: type[GeodesTasksError]) -> list[type[GeodesTasksError]]:
    """Return every class below a base that is raised, in the order of the vocabulary."""
    classes = (getattr(errors, name) for name in errors.__all__)
    # The classes below the base group others and are not raised; AttemptEndedError has a section.
    groups = {GeodesTasksError, *GeodesTasksError.__subclasses__(), AttemptEndedError}
    return [
        one
        for one in classes
        if isinstance(one, type) and issubclass(one, base) and one not in groups
    ]


def example(one: type[GeodesTasksError]) -> GeodesTasksError:
    """Return an error of a class, with values that show its text."""
    values = OF_CLASS.get(one.__name__) or [
        SAMPLES.get(name, 42 if argument.annotation == "int" else name.upper())
        for name, argument in inspect.signature(one).parameters.items()
        if argument.kind is argument.POSITIONAL_OR_KEYWORD and argument.default is argument.empty
    ]
    return one(*values)


def meanings() -> dict[str, str]:
    """Return the docstring of each reaction, by the name of its member."""
    tree = ast.parse(inspect.getsource(Reaction))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for member, text in itertools.pairwise(body):
        if (
            isinstance(member, ast.Assign)
            and isinstance(member.targets[0], ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[member.targets[0].id] = str(text.value.value)
    return found


if __name__ == "__main__":
    sys.exit(made_page.main(lambda target: {target: page()}, PAGE, sys.argv[1:]))
