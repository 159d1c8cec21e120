"""Every way a download can fail: one class for each different reaction of the caller.

The text of an error says what failed and why, with both values; its ``hint`` says what to do.
Values are positional and reach ``super().__init__`` unchanged, which is what survives pickle
and Celery's JSON. This module imports nothing of the package.
"""

from __future__ import annotations

from enum import StrEnum

_GO_ON = "geodes-tasks resume (on one machine: the same command again)"


class Reaction(StrEnum):
    """What the fleet does about a failure."""

    TRANSIENT = "transient"
    """Try again after a back-off; the attempt counts."""
    QUOTA = "quota"
    """The account waits until its window reopens; no attempt is counted."""
    THROTTLED = "throttled"
    """The portal asks for patience: wait as long as it says; no attempt is counted."""
    AUTH = "auth"
    """The account pauses until its key is replaced; the queue is kept."""
    OFFLINE = "offline"
    """The file is on tape: wait and poll, no slot held, no attempt counted."""
    CORRUPT = "corrupt"
    """The bytes are thrown away and fetched again; the attempt counts."""
    HELD = "held"
    """Somebody holds its source: wait until that is let go, no attempt counted."""
    LOCAL = "local"
    """This worker cannot write: the work goes back for others."""
    FINAL = "final"
    """No repetition can help."""


class GeodesTasksError(Exception):
    """Base of every error that this package raises on purpose."""

    reaction: Reaction = Reaction.FINAL
    hint: str = ""

    def __str__(self) -> str:
        """Join the values; subclasses say more."""
        return " ".join(str(value) for value in self.args)


# --- bad input: said before anything is queued ---------------------------------------------


class ConfigError(GeodesTasksError):
    """A setting cannot be used."""

    def __init__(self, setting: str, problem: str, hint: str = "") -> None:
        super().__init__(setting, problem, hint)
        self.setting, self.problem = setting, problem
        self.hint = hint or f"Correct {setting}; `geodes-tasks doctor` checks the whole set-up."

    def __str__(self) -> str:
        """Name the setting and the problem."""
        return f"{self.setting}: {self.problem}"


class SourceError(GeodesTasksError):
    """A SOURCE of items cannot be read."""

    hint = (
        "Give a STAC Item, an ItemCollection, a list of items or one item a line, "
        "for example what `pygeodes search -o items.json` writes."
    )

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(source, problem)
        self.source, self.problem = source, problem

    def __str__(self) -> str:
        """Name the source and the problem."""
        return f"{self.source}: {self.problem}"


class NoItemsError(SourceError):
    """A SOURCE can be read and holds no items: there is nothing to download."""

    hint = "Widen the search that wrote it."


class LedgerUnavailableError(GeodesTasksError):
    """Redis does not answer."""

    reaction = Reaction.TRANSIENT
    hint = "Start Redis or correct GEODES_TASKS_REDIS_URL; nothing was lost, say it again then."

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        """Name the server (its password masked) and the problem."""
        return f"no answer from Redis at {self.url}: {self.problem}"


class LedgerSchemaError(GeodesTasksError):
    """The ledger has unfinished downloads that another version of geodes-tasks wrote."""

    hint = (
        "Finish or forget its batches with the version that wrote them (schema 1: "
        "geodes-tasks 0.1.0), then start this one; or give this one a GEODES_TASKS_KEY_PREFIX "
        "of its own."
    )

    def __init__(self, url: str, schema: str, ours: str) -> None:
        super().__init__(url, schema, ours)
        self.url, self.schema, self.ours = url, schema, ours

    def __str__(self) -> str:
        """Name the server (its password masked) and both schemas."""
        return (
            f"the ledger in Redis at {self.url} has schema {self.schema} and unfinished "
            f"downloads, this version reads schema {self.ours}; nothing was changed"
        )


class LedgerStuckError(LedgerUnavailableError):
    """Redis answers and takes nothing: its memory or its disk is full, or it is a replica."""

    hint = (
        "Memory: raise its maxmemory; `geodes-tasks forget --all --older-than 30d` removes old "
        "batches. Disk: its log says more. A replica: name the primary in GEODES_TASKS_REDIS_URL. "
        "Nothing was lost, say it again then."
    )

    def __str__(self) -> str:
        """Name the server (its password masked) and quote it."""
        return f"Redis at {self.url} takes nothing now: {self.problem}"


class LedgerForbiddenError(GeodesTasksError):
    """Redis answers and this user of it may not do what was asked."""

    hint = "Use a user of Redis that may: deploy/redis/users.acl.example says who may do what."

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        """Name the server (its password masked) and quote it."""
        return f"Redis at {self.url} refuses: {self.problem}"


class DamagedRecordError(GeodesTasksError):
    """The record of a download cannot be understood: something else has written to the ledger."""

    hint = "Enqueue the item again."

    def __init__(self, download_id: str) -> None:
        super().__init__(download_id)
        self.download_id = download_id

    def __str__(self) -> str:
        """Name the download."""
        return f"{self.download_id}: the record is damaged"


class MissingPackageError(GeodesTasksError):
    """Something needs a package that is not among the dependencies."""

    def __init__(self, package: str, needed_by: str) -> None:
        super().__init__(package, needed_by)
        self.package, self.needed_by = package, needed_by
        self.hint = f"Install it: pip install {package}"

    def __str__(self) -> str:
        """Name both."""
        return f"{self.needed_by} needs {self.package}, which is not installed"


class UnknownNameError(GeodesTasksError):
    """Nothing has this name; nothing was changed."""

    hint = "Check the name: `geodes-tasks status` shows the newest batch and its account."

    def __init__(self, name: str, nearest: str = "") -> None:
        super().__init__(name, nearest)
        self.name, self.nearest = name, nearest
        if nearest:
            self.hint = f"Did you mean {nearest}?"

    def __str__(self) -> str:
        """Name it."""
        return f"{self.name!r} is no account, batch or source"


class UnknownBatchError(UnknownNameError):
    """No batch of that name is in the ledger."""

    hint = "Check the name: `geodes-tasks status` without a name shows the newest batch."

    def __init__(self, batch: str, nearest: str = "") -> None:
        super().__init__(batch, nearest)
        self.batch = batch

    def __str__(self) -> str:
        """Name the batch."""
        return f"batch {self.batch!r} is not in the ledger"


class UnknownAccountError(UnknownNameError):
    """No account of that name is configured, in the ledger, or known to a worker."""

    hint = "Check the name; `geodes-tasks enqueue --account NAME` makes a new account."

    def __str__(self) -> str:
        """Name the account and where it was looked up."""
        return (
            f"account {self.name!r} is not configured here, has no batch in the ledger, "
            "and no worker has a key for it"
        )


class UnknownSourceError(UnknownNameError):
    """No source has that name."""

    hint = "The sources are geodes and s3."

    def __str__(self) -> str:
        """Name the source."""
        return f"{self.name!r} is no source"


class UnknownDownloadError(UnknownNameError):
    """A batch has no download of that name."""

    hint = "Give the id of an item, a file name or the id of a download, as in the report."

    def __init__(self, batch: str, name: str, nearest: str = "") -> None:
        super().__init__(name, nearest)
        self.args = (batch, name, nearest)
        self.batch = batch

    def __str__(self) -> str:
        """Name both."""
        return f"batch {self.batch!r} has no download of {self.name!r}"


class BatchUnfinishedError(GeodesTasksError):
    """A batch has downloads that are not over."""

    hint = "Wait for its end (geodes-tasks watch), or cancel and forget it in one: --force."

    def __init__(self, batch: str, unfinished: int) -> None:
        super().__init__(batch, unfinished)
        self.batch, self.unfinished = batch, unfinished

    def __str__(self) -> str:
        """Tell how many are not over."""
        return f"batch {self.batch!r} is kept: {self.unfinished} downloads are unfinished"


# --- items that can never be downloaded ------------------------------------------------------


class ItemError(GeodesTasksError):
    """An item cannot be turned into a download."""

    hint = "The other items of the same source are not affected."

    def __init__(self, item: str, problem: str) -> None:
        super().__init__(item, problem)
        self.item, self.problem = item, problem

    def __str__(self) -> str:
        """Name the item and the problem."""
        return f"{self.item}: {self.problem}"


class NoDataAssetError(ItemError):
    """The item has no asset that the selection keeps."""

    hint = "Look at the asset keys of the item; --include 'GLOB' selects assets by key."


class HostileNameError(ItemError):
    """The file name in the item would leave the download folder or cannot be a file name."""

    hint = "Choose names yourself, for example --layout '{collection}/{item_id}/{checksum}'."


class NameTakenError(GeodesTasksError):
    """Two different files want one path."""

    hint = "Keep them apart with --layout '{collection}/{item}/{title}'."

    def __init__(self, path: str, item: str, other: str) -> None:
        super().__init__(path, item, other)
        self.path, self.item, self.other = path, item, other

    def __str__(self) -> str:
        """Name the path and both claimants."""
        return f"{self.path}: {self.item} wants this path, which belongs to {self.other}"


class HrefRefusedError(GeodesTasksError):
    """An href that this program does not open."""

    hint = "Hrefs must be https (plain http for loopback only) or s3."

    def __init__(self, href: str, problem: str) -> None:
        super().__init__(href, problem)
        self.href, self.problem = href, problem

    def __str__(self) -> str:
        """Name the href and the problem."""
        return f"{self.href}: {self.problem}"


class OutsideRootsError(GeodesTasksError):
    """A download whose file would lie where this worker may not write."""

    hint = (
        "Download into a folder below GEODES_TASKS_DOWNLOAD_ROOTS of the workers, "
        "or have that setting name one more."
    )

    def __init__(self, path: str, roots: str) -> None:
        super().__init__(path, roots)
        self.path, self.roots = path, roots

    def __str__(self) -> str:
        """Name the path and the folders that are allowed."""
        return f"{self.path}: this worker writes below {self.roots} only"


# --- transient: the network, the server ------------------------------------------------------


class TransferError(GeodesTasksError):
    """The transfer broke: refused, reset, cut, stalled, or a server error."""

    reaction = Reaction.TRANSIENT
    hint = "It is tried again by itself; if it keeps failing, the portal or the network is ill."

    def __init__(self, href: str, problem: str) -> None:
        super().__init__(href, problem)
        self.href, self.problem = href, problem

    def __str__(self) -> str:
        """Name the href and the problem."""
        return f"{self.href}: {self.problem}"


class UnreachableError(TransferError):
    """No connection was made: refused, no such host, or a proxy or TLS in the way."""

    hint = (
        "Nothing to do: it goes on by itself when the connection can be made. If that lasts, "
        "check the network, the proxy and GEODES_TASKS_PORTAL_URL (`geodes-tasks doctor`)."
    )


class StalledError(TransferError):
    """The connection is alive but brings no bytes."""


class ServerError(TransferError):
    """The server answered with a 5xx status."""


class TruncatedBodyError(GeodesTasksError):
    """The body ended before the announced size; the part file is kept."""

    reaction = Reaction.TRANSIENT
    hint = "It is tried again by itself, from the byte reached where the server allows it."

    def __init__(self, href: str, expected: int, received: int) -> None:
        super().__init__(href, expected, received)
        self.href, self.expected, self.received = href, expected, received

    def __str__(self) -> str:
        """Give both sizes."""
        return f"{self.href}: {self.expected} bytes announced, {self.received} received"


class SourceUnavailableError(GeodesTasksError):
    """This source cannot give the file, another may: no credentials, denied, no such key."""

    reaction = Reaction.TRANSIENT
    hint = "With --source auto the other source is tried; check the S3 credentials."

    def __init__(self, source: str, href: str, problem: str, whole: bool = False) -> None:
        super().__init__(source, href, problem, whole)
        self.source, self.href, self.problem = source, href, problem
        self.whole = whole
        """Whether the source as a whole is out, for now, and not this file alone."""

    def __str__(self) -> str:
        """Name the source, the href and the problem."""
        return f"{self.source} cannot give {self.href}: {self.problem}"


# --- the account ------------------------------------------------------------------------------


class FolderError(SourceUnavailableError):
    """The address is that of a folder, not of one object."""

    hint = "Nothing to do: the portal is asked for the file, or the folder is fetched whole."


class QuotaError(GeodesTasksError):
    """The account's products per hour are used up (a 403, or a 200 with JSON, in GEODES)."""

    reaction = Reaction.QUOTA
    hint = "Nothing to do: the account goes on by itself when its window reopens."

    def __init__(
        self, href: str, message: str, wait_s: float | None = None, own: bool = False
    ) -> None:
        super().__init__(href, message, wait_s, own)
        self.href, self.message = href, message
        self.wait_s = wait_s
        """Seconds until the window moves on, where that is known."""
        self.own = own
        """Whether the window of the settings is used up: the portal was not asked."""

    def __str__(self) -> str:
        """Quote the portal."""
        return f"{self.href}: download quota used up: {self.message}"


class AccountHeldError(GeodesTasksError):
    """The datalake did not give the file, and the account takes nothing from the portal now."""

    reaction = Reaction.QUOTA
    hint = "Nothing to do: it goes on with the account."

    def __init__(self, href: str, why: str) -> None:
        super().__init__(href, why)
        self.href, self.why = href, why

    def __str__(self) -> str:
        """Say why the account waits."""
        return f"{self.href}: not asked for, the account waits ({self.why})"


class ThrottledError(GeodesTasksError):
    """The server answered 429 or SlowDown."""

    reaction = Reaction.THROTTLED
    hint = "Nothing to do: it waits as the server asks and goes on."

    def __init__(self, href: str, retry_after_s: float | None) -> None:
        super().__init__(href, retry_after_s)
        self.href, self.retry_after_s = href, retry_after_s

    def __str__(self) -> str:
        """Give the wait that the server asked for."""
        wait = "no wait named" if self.retry_after_s is None else f"wait {self.retry_after_s:g} s"
        return f"{self.href}: too many requests ({wait})"


class AuthError(GeodesTasksError):
    """The key or the credentials were refused."""

    reaction = Reaction.AUTH
    hint = (
        "Make a new key on the portal (profile, Authentication, API Key), put it in "
        f"GEODES_API_KEY or the file named by GEODES_API_KEY_FILE, then: {_GO_ON}"
    )

    def __init__(self, href: str, key_name: str, problem: str) -> None:
        super().__init__(href, key_name, problem)
        self.href, self.key_name, self.problem = href, key_name, problem

    def __str__(self) -> str:
        """Name the key by its name and last characters, never whole."""
        return f"{self.problem} from {self.href}: {self.key_name} was refused"


class KeyMissingError(AuthError):
    """The portal gives files to holders of a key only, and none can be sent."""

    hint = (
        "Make a key on the portal (profile, Authentication, API Key), put it in GEODES_API_KEY, "
        f"in a file named by GEODES_API_KEY_FILE or in pygeodes-config.json, then: {_GO_ON}"
    )

    def __str__(self) -> str:
        """Name the setting that should hold the key."""
        return f"{self.href} needs an API key: {self.key_name} {self.problem}"


class UntrustedServerError(GeodesTasksError):
    """The certificate of the portal cannot be verified; nothing was sent, the key least of all."""

    reaction = Reaction.AUTH
    hint = (
        "If a private authority or a proxy signs here, name its certificates with "
        "GEODES_TASKS_CA_BUNDLE=/path/to/ca.pem, and check the clock of this machine; then: "
        f"{_GO_ON}. Verification cannot be switched off."
    )

    def __init__(self, href: str, problem: str) -> None:
        super().__init__(href, problem)
        self.href, self.problem = href, problem

    def __str__(self) -> str:
        """Name the address and what is wrong with its certificate."""
        return f"{self.href}: its TLS certificate is not trusted: {self.problem}"


class SourceHeldError(GeodesTasksError):
    """Every source in use that has the file is held by somebody."""

    reaction = Reaction.HELD

    def __init__(self, title: str, source: str) -> None:
        super().__init__(title, source)
        self.title, self.source = title, source
        self.hint = f"It goes on after: geodes-tasks resume {source}"

    def __str__(self) -> str:
        """Name the file and the source."""
        return f"{self.title}: only {self.source} has it, and somebody holds that"


# --- offline ------------------------------------------------------------------------------------


class OfflineError(GeodesTasksError):
    """The file is on tape only."""

    reaction = Reaction.OFFLINE
    hint = "It waits and starts by itself when the portal has it online."

    def __init__(self, href: str, status: int) -> None:
        super().__init__(href, status)
        self.href, self.status = href, status

    def __str__(self) -> str:
        """Give the status that said so."""
        return f"{self.href}: not online (HTTP {self.status}), the file is on tape"


# --- final ----------------------------------------------------------------------------------------


class NotFoundError(GeodesTasksError):
    """The portal does not know the file."""

    hint = "Search for the item again: it may have been replaced by a newer version."

    def __init__(self, href: str, status: int) -> None:
        super().__init__(href, status)
        self.href, self.status = href, status

    def __str__(self) -> str:
        """Give the status."""
        return f"{self.href}: no such file (HTTP {self.status})"


class ForbiddenError(GeodesTasksError):
    """The portal refuses this file to a key that it accepts elsewhere."""

    hint = (
        "Ask on the portal for the right to this product or its collection, then: "
        "geodes-tasks retry. The key is good: the other files go on."
    )

    def __init__(self, href: str, key_name: str, problem: str) -> None:
        super().__init__(href, key_name, problem)
        self.href, self.key_name, self.problem = href, key_name, problem

    def __str__(self) -> str:
        """Name the answer, the file and the key."""
        return (
            f"{self.problem} from {self.href}: no right to this file, "
            f"though the portal accepts {self.key_name} elsewhere"
        )


class LicenceError(NotFoundError):
    """The licence of the file has not been accepted."""

    hint = "Accept the licence on the portal, then: geodes-tasks retry BATCH --class LicenceError"

    def __str__(self) -> str:
        """Give the status."""
        return f"{self.href}: its licence has not been accepted (HTTP {self.status})"


class UnexpectedAnswerError(GeodesTasksError):
    """An answer that is not the file and that nothing here knows."""

    reaction = Reaction.TRANSIENT
    hint = "It is tried again by itself; if it stays so, look at the address in a browser."

    def __init__(self, href: str, status: int, problem: str) -> None:
        super().__init__(href, status, problem)
        self.href, self.status, self.problem = href, status, problem

    def __str__(self) -> str:
        """Give the status and what came."""
        return f"{self.href}: HTTP {self.status}, {self.problem}"


# --- bytes -------------------------------------------------------------------------------------


class ChecksumMismatchError(GeodesTasksError):
    """The bytes received do not hash to what the catalogue announced."""

    reaction = Reaction.CORRUPT
    hint = "The bytes were thrown away; the file is fetched again from byte 0."

    def __init__(self, path: str, expected: str, actual: str, whole: bool = True) -> None:
        super().__init__(path, expected, actual, whole)
        self.path, self.expected, self.actual = path, expected, actual
        self.whole = whole
        """Fetched in one go from byte 0: a second such copy tells who is wrong."""

    def __str__(self) -> str:
        """Give both digests."""
        return f"{self.path}: catalogue says {self.expected}, received {self.actual}"


class SizeMismatchError(GeodesTasksError):
    """More bytes came than the catalogue announced."""

    reaction = Reaction.CORRUPT
    hint = ChecksumMismatchError.hint

    def __init__(self, path: str, expected: int, actual: int) -> None:
        super().__init__(path, expected, actual)
        self.path, self.expected, self.actual = path, expected, actual

    def __str__(self) -> str:
        """Give both sizes."""
        return f"{self.path}: catalogue says {self.expected} bytes, received {self.actual}"


class CatalogueMismatchError(GeodesTasksError):
    """Two whole copies agree with each other but not with the catalogue."""

    hint = "The catalogue is wrong about this file; the copy is kept beside it for inspection."

    def __init__(self, path: str, expected: str, actual: str, quarantine: str) -> None:
        super().__init__(path, expected, actual, quarantine)
        self.path, self.expected, self.actual = path, expected, actual
        self.quarantine = quarantine

    def __str__(self) -> str:
        """Give both digests and where the copy is."""
        return (
            f"{self.path}: catalogue says {self.expected}, two full copies say {self.actual}; "
            f"copy kept at {self.quarantine}"
        )


# --- this worker's disk ----------------------------------------------------------------------


class DiskError(GeodesTasksError):
    """The download folder cannot take the file: full, over quota, read-only, stale."""

    reaction = Reaction.LOCAL
    hint = "Free space or mend the folder; this worker takes work again when it can write."

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        """Name the path and the problem."""
        return f"{self.path}: {self.problem}"


class TooLargeError(DiskError):
    """The volume can never take the file, or a body without an announced end fills it."""

    reaction = Reaction.FINAL
    hint = (
        "Download it to a larger volume with -o. If the item is wrong about its size, report it "
        "to the portal."
    )


class NotAFileError(GeodesTasksError):
    """The final name is taken by a folder or something else that is no regular file."""

    hint = "Move it away, or choose another folder with -o or other names with --layout."

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(path, kind)
        self.path, self.kind = path, kind

    def __str__(self) -> str:
        """Name the path and what is there."""
        return f"{self.path}: there is a {self.kind} of this name already"


# --- the end of an attempt from outside ----------------------------------------------------------


class AttemptEndedError(GeodesTasksError):
    """The attempt must stop here; what it knows is not recorded."""

    def __init__(self, download_id: str) -> None:
        super().__init__(download_id)
        self.download_id = download_id


class LeaseLostError(AttemptEndedError):
    """Another worker holds this download now."""

    def __str__(self) -> str:
        """Name the download."""
        return f"{self.download_id}: the lease went to another worker"


class CancelledError(AttemptEndedError):
    """Somebody cancelled this download."""

    def __str__(self) -> str:
        """Name the download."""
        return f"{self.download_id}: cancelled"


class WorkerStoppingError(AttemptEndedError):
    """This worker shuts down; the download goes back with its progress kept."""

    def __str__(self) -> str:
        """Name the download."""
        return f"{self.download_id}: given back, the worker is stopping"
