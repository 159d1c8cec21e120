"""Write docs/schema/*.json: JSON Schemas of what the commands print and what hooks receive.

python docs/make_schemas.py [DIR]           writes them
python docs/make_schemas.py --check [DIR]   only checks that they are up to date

`tests/integration/test_json_forms.py` checks real output against them, with no field left over.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import made_page
from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict

from geodes_tasks.ledger.checks import Check
from geodes_tasks.model.results import DownloadRecord, ErrorInfo
from geodes_tasks.model.states import Outcome, Reason, State
from geodes_tasks.settings.origins import Setting
from geodes_tasks.transfer.audit import Finding

FOLDER = Path(__file__).with_name("schema")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
CONFIG = ConfigDict(use_attribute_docstrings=True, json_schema_serialization_defaults_required=True)
Failure = TypedDict(
    "Failure", {"class": str, "count": int, "example": str, "command": str | None}
)  # `class` is a keyword of Python
"""The failures of one class, and the command that retries them."""


@with_config(CONFIG)
class Paused(TypedDict):
    """A batch, a source or an account that takes no work now."""

    kind: Literal["batch", "source", "account"]
    name: str
    reason: str
    until: str | None
    """ISO 8601; null: until a user resumes it."""


@with_config(CONFIG)
class Silent(TypedDict):
    """A worker that has not renewed its registration for a while."""

    name: str
    since: str
    taken_over_at: str | None
    """ISO 8601: when other workers take its downloads over; null when it has none."""


@with_config(CONFIG)
class Workers(TypedDict):
    """The workers that registered lately."""

    alive: int
    silent: list[Silent]


@with_config(CONFIG)
class Account(TypedDict):
    """The account of the batch."""

    name: str
    quota: str | None
    """The setting: `50/hour` or `off`; null before a worker has published it."""
    quota_left: int | None
    """Requests left in the own window; null with `off`."""
    portal_quota_left: int | None
    """Requests left by the portal's last answer; null when it names none."""
    limit: int | None
    """The concurrency limit in force."""
    running: int


@with_config(CONFIG)
class Status(TypedDict):
    """A batch: `status --json`, and `download --json` at its end."""

    batch: str
    owner: str | None
    """user@host that enqueued it first."""
    enqueued_at: str | None
    """ISO 8601 with offset."""
    total: int
    states: dict[State, int]
    """Every state, with 0 too."""
    outcomes: dict[Outcome, int]
    waiting: dict[Reason, int]
    bytes_total: int
    bytes_done: int
    bytes_per_second: int
    """Mean of the last 20 seconds or so; 0 when the batch is over."""
    expected_end: str | None
    """ISO 8601 with offset; null when unknown."""
    paused: list[Paused]
    failures: list[Failure]
    workers: Workers
    accounts: list[Account]


@with_config(CONFIG)
class Running(TypedDict):
    """A download under way."""

    download_id: str
    item_id: str
    title: str
    size_bytes: int | None
    done_bytes: int
    worker: str
    source: str
    started: str
    lease_end: str
    bytes_per_second: float


@with_config(CONFIG)
class Waiting(TypedDict):
    """The downloads that wait for one reason."""

    reason: Reason
    count: int
    next_due: str | None
    since: str | None


@with_config(CONFIG)
class Watch(TypedDict):
    """Batches that are not over: `watch --json`."""

    at: str
    batches: list[Status]
    running: list[Running]
    waiting: list[Waiting]


@with_config(CONFIG)
class PlannedDownload(TypedDict):
    """One download of a plan."""

    item_id: str
    asset_key: str
    path: str
    size_bytes: int | None
    checksum: str | None
    """`md5:<hex>`; null when the catalogue has none."""
    source: Literal["s3", "geodes"] | None
    present: bool
    by_ranges: bool
    """Only members are fetched, of an archive that is not fetched whole."""
    bytes_to_fetch: int
    portal_requests: int
    """Units of quota that it costs."""


@with_config(CONFIG)
class RefusedItem(TypedDict):
    """An item that a run would refuse, and why."""

    item_id: str
    error: ErrorInfo


@with_config(CONFIG)
class Plan(TypedDict):
    """A run that is only shown: `download --dry-run --json`."""

    downloads: list[PlannedDownload]
    refused: list[RefusedItem]
    bytes_total: int
    bytes_to_fetch: int
    bytes_free: int | None
    portal_requests: int
    expected_seconds: float | None


@with_config(CONFIG)
class Problem(TypedDict):
    """Why an item was refused."""

    message: str
    hint: str


@with_config(CONFIG)
class Receipt(TypedDict):
    """What was queued: `enqueue --json`."""

    batch: str
    downloads: int
    bytes_total: int
    new: int
    joined: int
    """Queued by another batch already: one transfer serves both."""
    again: int
    """Ended before, and queued again."""
    present: int
    refused: int
    errors: list[Problem]
    """The first 100."""


@with_config(CONFIG)
class WrongFile(TypedDict):
    """A file that is not what it should be: a line of `verify --json`."""

    path: str
    finding: Finding
    size_bytes: int
    detail: str


@with_config(CONFIG)
class FileDone(TypedDict):
    """A verified file: what `GEODES_TASKS_ON_FILE` receives."""

    path: str
    item: str
    collection: str
    asset_key: str
    title: str
    outcome: Outcome
    size_bytes: int
    checksum: str
    """`md5:<hex>`; empty when unknown."""
    verified: bool | Literal["crc32"]
    source: str
    """`s3` or `geodes`; empty when nothing was fetched."""
    download_id: str


@with_config(CONFIG)
class BatchDone(TypedDict):
    """A batch that is over: what `GEODES_TASKS_ON_BATCH` receives."""

    batch: str
    total: int
    done: int
    failed: int
    cancelled: int
    bytes: int


for _name in (DownloadRecord, ErrorInfo, Check, Setting):
    with_config(CONFIG)(_name)

FORMS: dict[str, Any] = {
    "status": Status,
    "batches": list[Status],
    "watch": Watch,
    "plan": Plan,
    "receipt": Receipt,
    "record": DownloadRecord,
    "report": list[DownloadRecord],
    "verify": WrongFile,
    "doctor": list[Check],
    "config": list[Setting],
    "on-file": FileDone,
    "on-batch": BatchDone,
}
"""Name of the file to the form."""


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a form."""
    made: dict[str, Any] = TypeAdapter(FORMS[name]).json_schema(mode="serialization")
    for one in (made, *made.get("$defs", {}).values()):
        if one.get("title") == "DownloadRecord":
            # Kept in the ledger, and left out of the JSON form.
            del one["properties"]["footprint"]
            one["required"].remove("footprint")
            # Only a set of members has them.
            one["required"].remove("members")
    return {"$schema": DIALECT, **made}


def schemas(folder: Path) -> dict[Path, str]:
    """Return the text of each file."""
    return {folder / f"{name}.json": json.dumps(schema(name), indent=2) + "\n" for name in FORMS}


if __name__ == "__main__":
    sys.exit(made_page.main(schemas, FOLDER, sys.argv[1:]))
