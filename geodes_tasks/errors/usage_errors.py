"""Errors of use: a setting, a source of items, a search or a name that cannot be used."""

from __future__ import annotations

import shlex

from geodes_tasks.errors.base_error import GeodesTasksError
from geodes_tasks.errors.remedies import for_reader


class UsageError(GeodesTasksError):
    """The request cannot be carried out; change it and make it again."""


class ConfigError(UsageError):
    """A setting cannot be used."""

    setting: str
    problem: str
    remedy: str = ""
    """Empty for the usual one, which names the setting."""

    def __str__(self) -> str:
        """Return the setting and its problem; an option by its name in Python for its caller."""
        setting = self.setting
        return f"{for_reader(setting) if setting.startswith('-') else setting}: {self.problem}"

    def __post_init__(self) -> None:
        """Fill in the usual remedy where none was given."""
        # An option has no default that could be wrong elsewhere: the doctor knows nothing of it.
        more = "; `geodes-tasks doctor` checks all settings" if "_" in self.setting else ""
        self.remedy = self.remedy or f"Correct {self.setting}{more}."
        super().__post_init__()


class SourceError(UsageError):
    """A SOURCE of items cannot be read."""

    source: str
    problem: str

    template = "{source}: {problem}"
    remedy = (
        "Give a STAC Item, an ItemCollection, a list of items or one item per line, "
        "for example the file that `pygeodes search` writes."
    )


class NoItemsError(SourceError):
    """A SOURCE can be read but contains no items: there is nothing to download."""

    remedy = "Widen the search that wrote it."


class SearchError(SourceError):
    """The search cannot be made, or the portal does not understand it."""

    remedy = (
        "Correct the search. `geodes-tasks collections` lists the collections; properties and "
        "operators: https://geodes.cnes.fr/support/api"
    )


class TooManyItemsError(UsageError):
    """A search finds more items than are allowed."""

    found: int
    allowed: int

    template = "the search finds {found} items, the limit is {allowed}"
    remedy = "Narrow the search, or allow more: Config(nb_max_items=...)."


class NoGeodesError(UsageError):
    """An item cannot download itself before a Geodes object exists."""

    template = "no Geodes object exists yet"
    remedy = "Make one first: geodes = Geodes(Config(api_key=...))"


class MissingPackageError(UsageError):
    """A function needs a package that is not among the dependencies."""

    package: str
    needed_by: str

    template = "{needed_by} needs {package}, which is not installed"

    def __post_init__(self) -> None:
        """Name in the remedy the extra that brings the package, else the package."""
        extra = {"pandas": "notebook", "geopandas": "geo"}.get(self.package)
        wanted = f"'geodes-tasks[{extra}]'" if extra else self.package
        self.remedy = f"Install it: pip install {wanted}"
        super().__post_init__()


class DeploymentError(UsageError):
    """The secrets or files of a deployment cannot be written."""

    path: str
    problem: str

    template = "{path}: {problem}"
    remedy = "Run the command as the owner of the folder, or name a folder that does not exist yet."


class UnknownNameError(UsageError):
    """No account, batch or source has this name; nothing was changed."""

    name: str
    nearest: str = ""
    """Known names that are most like it: ``april or april-2``."""

    template = "{name!r} is no account, batch or source"
    remedy = "Check the name; `geodes-tasks batches` lists the batches."

    def __post_init__(self) -> None:
        """Suggest the nearest names in the remedy."""
        if self.nearest:
            self.remedy = f"Did you mean {self.nearest}?"
        super().__post_init__()


class UnknownBatchError(UnknownNameError):
    """No batch of this name is in the ledger."""

    template = "batch {name!r} is not in the ledger"
    remedy = UnknownNameError.remedy


class UnknownAccountError(UnknownNameError):
    """No account of this name is in the settings, in the ledger, or known to a worker."""

    template = (
        "account {name!r} is not configured here, has no batch in the ledger, "
        "and no worker has a key for it"
    )
    remedy = "Check the name; `geodes-tasks enqueue --account NAME` makes a new account."


class UnknownSourceError(UnknownNameError):
    """No source has this name."""

    template = "{name!r} is no source"
    remedy = "The sources are geodes and s3."


class UnknownDownloadError(UnknownNameError):
    """A batch has no download of this name."""

    batch: str = ""

    template = "batch {batch!r} has no download of {name!r}"
    remedy = "Give the id of an item, a file name or the id of a download, as in the report."


class BatchUnfinishedError(UsageError):
    """A batch has unfinished downloads, so it was not removed."""

    batch: str
    unfinished: int
    """Number of downloads in state PENDING, STARTED or RETRY."""

    template = "batch {batch!r} is kept: it has unfinished downloads ({unfinished})"

    def __post_init__(self) -> None:
        """Name the command that forgets the batch all the same."""
        command = f"`geodes-tasks forget {shlex.quote(self.batch)} --force`"
        self.remedy = f"Wait until it is finished, or cancel and forget it ({command})."
        super().__post_init__()


class FolderBusyError(UsageError):
    """Another run downloads into the same folder."""

    folder: str
    owner: str
    """Process id of the other run."""

    template = "{folder}: another run downloads into this folder already (process {owner})"
    remedy = "Wait for that run, stop it, or download into another folder."
