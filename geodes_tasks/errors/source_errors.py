"""Errors of a source: the portal, S3 or the catalogue did not deliver what was requested."""

from __future__ import annotations

from geodes_tasks.errors.base_error import GeodesTasksError, Reaction


class FetchError(GeodesTasksError):
    """A source did not deliver the file, a part of it, or an answer about it."""


class TransferError(FetchError):
    """The transfer broke: refused, reset, cut, stalled, or a server error."""

    href: str
    problem: str

    reaction = Reaction.TRANSIENT
    template = "{href}: {problem}"
    remedy = "It is retried by itself; if it keeps failing, the portal or the network has a fault."


class UnreachableError(TransferError):
    """No connection was made: refused, unknown host, or a proxy or TLS prevented it."""

    remedy = (
        "Nothing to do: it continues by itself when the connection can be made. If that lasts, "
        "check the network, the proxy and GEODES_TASKS_PORTAL_URL (`geodes-tasks doctor`)."
    )


class ProxyFailedError(UnreachableError):
    """The proxy of the environment cannot be used, or refuses to lead to the host."""

    remedy = (
        "Correct the variable (https_proxy or all_proxy; user and password go in front of its "
        "host), or name the host in no_proxy; `geodes-tasks doctor` tries the proxy."
    )


class UntrustedServerError(UnreachableError):
    """The certificate of a server cannot be verified; nothing was sent, not even the key."""

    remedy = (
        "If a private authority or a proxy signs here, name its certificates with "
        "GEODES_TASKS_CA_BUNDLE=/path/to/ca.pem, and check the clock of this machine. "
        "Verification cannot be switched off."
    )


class RedirectUnreachableError(UnreachableError):
    """The portal redirects to a host to which no connection was made."""

    host: str
    """Name of that host, without its port."""

    template = "{href} redirects to {host}: {problem}"
    remedy = (
        "Nothing to do: what the portal redirects there waits, and continues by itself. If that "
        "lasts, check that this machine may reach the host, and the proxy."
    )


class StalledError(TransferError):
    """The connection is open but brings no bytes."""


class ServerError(TransferError):
    """The server answered with a 5xx status."""


class TruncatedBodyError(FetchError):
    """The body ended before the announced size; the part file is kept."""

    href: str
    expected: int
    """Bytes announced."""
    received: int
    """Bytes received."""

    reaction = Reaction.TRANSIENT
    template = "{href}: {expected} bytes announced, {received} received"
    remedy = "It is retried by itself, from the byte reached if the server supports that."


class UnexpectedAnswerError(FetchError):
    """The answer is not the file and has no known meaning."""

    href: str
    status: int
    """HTTP status."""
    problem: str

    reaction = Reaction.TRANSIENT
    template = "{href}: HTTP {status}, {problem}"
    remedy = "It is retried by itself; if it keeps failing, open the address in a browser."


class SourceUnavailableError(FetchError):
    """This source cannot give the file now, another may: its credentials are refused or expired."""

    source: str
    href: str
    problem: str
    whole: bool = False
    """True if the source as a whole is unavailable now, not only for this file."""

    reaction = Reaction.TRANSIENT
    template = "{source} cannot give {href}: {problem}"
    remedy = (
        "Another source is tried where the file has one and --source auto allows it. Check the S3 "
        "credentials; other hosts than the portal get no key."
    )


class SourceUnreachableError(SourceUnavailableError):
    """No connection to this source was made: refused, unknown host, or TLS prevented it."""

    remedy = (
        "Nothing to do: another source is used if it has the file, else the download continues by "
        "itself when the connection can be made. If that lasts, run `geodes-tasks doctor`."
    )


class NoObjectError(SourceUnavailableError):
    """S3 has no such object; without another source it ends as NotFoundError."""

    reaction = Reaction.FINAL
    remedy = (
        "Nothing to do: another source is tried where the file has one and --source auto allows it."
    )


class ArchivedObjectError(SourceUnavailableError):
    """S3 has the object in its archive only."""

    reaction = Reaction.FINAL
    remedy = (
        "Allow the portal with --source auto, or have the object restored, then: "
        "geodes-tasks retry BATCH --class ArchivedObjectError"
    )


class SourceRefusedError(SourceUnavailableError):
    """S3, or a host that is not the portal, does not give this file: denied, or no such bucket."""

    reaction = Reaction.FINAL
    remedy = (
        "Check the address and your rights there (other hosts than the portal get no key), then: "
        "geodes-tasks retry BATCH --class SourceRefusedError. If the portal has the file, download "
        "or enqueue it again with --source auto."
    )


class FolderError(SourceUnavailableError):
    """The address is that of a folder, not of one object."""

    reaction = Reaction.FINAL
    remedy = "If the portal has the file, download or enqueue it again with --source auto."


class SourcePausedError(FetchError):
    """Every usable source that has the file is paused."""

    title: str
    source: str

    reaction = Reaction.PAUSED
    template = "{title}: only {source} has it, and that source is paused"

    def __post_init__(self) -> None:
        """Name the source in the remedy."""
        self.remedy = (
            f"It continues when the source is resumed (geodes-tasks resume {self.source})."
        )
        super().__post_init__()


class OfflineError(FetchError):
    """The file is on tape only."""

    href: str
    status: int
    """HTTP status."""

    reaction = Reaction.OFFLINE
    template = "{href}: not online (HTTP {status}), the file is on tape"
    remedy = "Nothing to do: the download waits, and starts by itself when the file is online."


class NotFoundError(FetchError):
    """The source does not have the file, and no other source is left."""

    href: str
    status: int
    """HTTP status."""
    retry_after_s: float | None = None
    """Seconds after which the server asks to try again; None if it names none."""

    template = "{href}: no such file (HTTP {status})"
    remedy = "Search for the item again: a newer version may have replaced it."


class LicenceError(NotFoundError):
    """The licence of the file has not been accepted."""

    template = "{href}: its licence has not been accepted (HTTP {status})"
    remedy = "Accept the licence on the portal, then: geodes-tasks retry BATCH --class LicenceError"


class NoRangesError(FetchError):
    """The server gives the archive only as a whole."""

    title: str

    template = "{title}: the server does not give parts of it"
    remedy = "Download the whole archive, then extract its members."


class CatalogueUnavailableError(FetchError):
    """The catalogue gave no answer, or none in JSON, after several attempts."""

    address: str
    problem: str

    template = "{address}: {problem}"
    remedy = "Nothing was downloaded; try again later, or open the portal in a browser."
