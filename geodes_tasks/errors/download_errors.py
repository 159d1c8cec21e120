"""Errors of one download: its item, its bytes, its place on disk, the end of its attempt."""

from __future__ import annotations

from geodes_tasks.errors.base_error import GeodesTasksError, Reaction


class DownloadError(GeodesTasksError):
    """This download cannot be made, proven or written as planned."""


class BatchFailedError(DownloadError):
    """Not every download of a batch is done: ``status.raise_for_status()`` raises it."""

    batch: str
    total: int
    """Number of downloads of the batch."""
    failed: int
    cancelled: int
    unfinished: int

    template = (
        "batch {batch}: {failed} failed, {cancelled} cancelled, {unfinished} unfinished "
        "of {total} in all"
    )
    remedy = "batch.failures() has the failed ones with their errors; batch.retry() retries them."


# --- items that can never be downloaded ----------------------------------------------------------


class ItemError(DownloadError):
    """An item cannot be turned into a download."""

    item: str
    problem: str

    template = "{item}: {problem}"
    remedy = "The other items of the same source are not affected."


class NoDataAssetError(ItemError):
    """The item has no asset that the selection keeps."""

    remedy = "Check the asset keys of the item; --include 'GLOB' selects assets by key."


class ItemNotFoundError(ItemError):
    """The portal has no item of this id or product name."""

    remedy = "Search for it: geodes-tasks search -c COLLECTION --start DAY --end DAY"


class HostileNameError(ItemError):
    """The file name in the item would leave the download folder or cannot be a file name."""

    remedy = "Choose your own names, for example --layout '{collection}/{item_id}/{checksum}'."


class NameTakenError(DownloadError):
    """Two different files have the same path."""

    path: str
    item: str
    other: str
    """The item that has the path."""

    template = "{path}: {item} wants this path, which belongs to {owner}"
    remedy = (
        "Keep them apart with --layout '{collection}/{item}/{title}', two versions of one product "
        "with --layout '{item_id}/{title}', two files of one item with "
        "--layout '{item}/{key}/{title}'."
    )

    def __post_init__(self) -> None:
        """Name the owner of the path: of an item with two such files not its id again."""
        self.owner = "another of its files" if self.item == self.other else self.other
        super().__post_init__()


class HrefRefusedError(DownloadError):
    """An href that this program does not open."""

    href: str
    problem: str
    remedy: str = "Hrefs must be https (plain http for loopback only) or s3."

    template = "{href}: {problem}"


class OutsideRootsError(DownloadError):
    """The file of a download would be in a folder where this worker may not write."""

    path: str
    roots: str
    """The allowed folders."""

    template = "{path}: this worker writes below {roots} only"
    remedy = (
        "Download into a folder below GEODES_TASKS_DOWNLOAD_ROOTS of the workers, "
        "or add the folder to that setting."
    )


# --- bytes ---------------------------------------------------------------------------------------


class ChecksumMismatchError(DownloadError):
    """The bytes received do not hash to the checksum in the catalogue."""

    path: str
    expected: str
    actual: str
    whole: bool = True
    """True if the copy was fetched in one attempt from byte 0: if a second such copy has the same
    digest, the catalogue is wrong."""

    reaction = Reaction.CORRUPT
    template = "{path}: catalogue says {expected}, received {actual}"
    remedy = "Nothing to do: the bytes were deleted, and the file is fetched again from byte 0."


class SizeMismatchError(DownloadError):
    """The server has more or fewer bytes than the catalogue says."""

    path: str
    expected: int
    """Bytes in the catalogue."""
    actual: int
    """Bytes received; there may be more."""

    reaction = Reaction.CORRUPT
    template = "{path}: catalogue says {expected} bytes, received {actual}"
    remedy = ChecksumMismatchError.remedy


class CatalogueMismatchError(DownloadError):
    """Two whole copies agree with each other but not with the catalogue."""

    path: str
    expected: str
    actual: str
    quarantine: str
    """Path of the copy."""

    template = (
        "{path}: catalogue says {expected}, two full copies say {actual}; copy kept at {quarantine}"
    )
    remedy = "The catalogue is wrong about this file: check the copy, and report it to the portal."


class ArchiveError(DownloadError):
    """The file is no zip archive, is damaged, or lacks a member."""

    title: str
    problem: str

    template = "{title}: {problem}"
    remedy = "Only sound zip archives have members: fetch it without --extract and --members."


class NoMemberError(DownloadError):
    """A glob over members matches none of the archive."""

    title: str
    pattern: str
    there: str
    """Names of members, the first few."""

    template = "{title}: no member matches {pattern!r}; it has {there}"
    remedy = "Correct the glob, for example --members '*_B04_10m.jp2'."


# --- this worker's disk --------------------------------------------------------------------------


class DiskError(DownloadError):
    """The download folder cannot take the file: full, over quota, read-only, stale."""

    path: str
    problem: str

    reaction = Reaction.LOCAL
    template = "{path}: {problem}"
    remedy = (
        "Free space or repair the folder, or mount it; this worker takes work again when it can "
        "write."
    )


class TooLargeError(DiskError):
    """The volume can never take the file, or a body without an announced end fills it."""

    reaction = Reaction.FINAL
    remedy = (
        "Download it to a larger volume with -o. If the item is wrong about its size, report it "
        "to the portal."
    )


class NotAFileError(DownloadError):
    """A folder, or something else that cannot be replaced, has the final name."""

    path: str
    kind: str
    """``folder``, for example."""

    template = "{path}: there is a {kind} of this name already"
    remedy = "Move it away, or choose another folder with -o or other names with --layout."


# --- the end of an attempt from outside ----------------------------------------------------------


class AttemptEndedError(DownloadError):
    """The attempt must stop now; nothing about it is recorded."""

    download_id: str

    template = "{download_id}: the attempt was ended"


class LeaseLostError(AttemptEndedError):
    """Another worker has the lease of this download now."""

    template = "{download_id}: the lease went to another worker"


class DownloadCancelledError(AttemptEndedError):
    """A user cancelled this download."""

    template = "{download_id}: cancelled"


class WorkerStoppingError(AttemptEndedError):
    """This worker is stopping; the download is requeued and its part file is kept."""

    template = "{download_id}: requeued, the worker is stopping"
