"""Records as a data frame of pandas, which only this module imports."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from geodes_tasks.errors import MissingPackageError
from geodes_tasks.model.results import DownloadRecord

COLUMNS = (
    "item_id", "collection", "asset_key", "state", "outcome", "reason", "path", "size_bytes",
    "checksum", "verified", "bytes_transferred", "attempts", "source", "worker", "started_at",
    "finished_at", "due_at", "error_type", "error_message", "error_hint", "download_id",
)  # fmt: skip
WHOLE = ("size_bytes", "bytes_transferred", "attempts")
TIMES = ("started_at", "finished_at", "due_at")


def frame(records: Iterable[DownloadRecord]) -> Any:
    """Return a data frame, a row for each record: times in UTC, whole bytes, None as NA.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise MissingPackageError("pandas", "to_dataframe()") from error
    made = pandas.DataFrame([record.to_row() for record in records], columns=list(COLUMNS))
    for name in WHOLE:
        # pandas' nullable type: its int64 has no missing value and would become float.
        made[name] = made[name].astype("Int64")
    for name in TIMES:
        made[name] = pandas.to_datetime(made[name], utc=True)
    return made
