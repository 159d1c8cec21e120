"""Errors of the ledger in Redis, and of the private server and worker on one machine."""

from __future__ import annotations

from geodes_tasks.errors.base_error import GeodesTasksError, Reaction


class LedgerError(GeodesTasksError):
    """The ledger cannot be read or written."""


class LedgerUnavailableError(LedgerError):
    """Redis does not answer."""

    url: str
    """Address of the server, its password masked."""
    problem: str

    reaction = Reaction.TRANSIENT
    template = "no answer from Redis at {url}: {problem}"
    remedy = (
        "Start Redis or fix GEODES_TASKS_REDIS_URL, then run the command again. No work was lost."
    )


class LedgerStuckError(LedgerUnavailableError):
    """Redis answers but accepts no writes: its memory or disk is full, or it is a replica."""

    template = "Redis at {url} accepts no writes now: {problem}"
    remedy = (
        "If its memory is full, raise maxmemory; `geodes-tasks forget --all --older-than 30d` "
        "removes old batches. If its disk is full, its log says so. If it is a replica, name the "
        "primary in GEODES_TASKS_REDIS_URL. Then run the command again. No work was lost."
    )


class LedgerSchemaError(LedgerError):
    """The ledger has unfinished downloads that another version of geodes-tasks wrote."""

    url: str
    """Address of the server, its password masked."""
    schema: str
    ours: str
    """The schema that this version reads."""

    template = (
        "the ledger in Redis at {url} has schema {schema} and unfinished downloads, "
        "this version reads schema {ours}; nothing was changed"
    )
    remedy = (
        "Finish or forget its batches with the version that wrote them (schema 1: "
        "geodes-tasks 0.1.0), then start this version; or give this version a "
        "GEODES_TASKS_KEY_PREFIX of its own."
    )


class LedgerForbiddenError(LedgerError):
    """Redis answers but does not permit the command to this user, or does not know the user."""

    url: str
    """Address of the server, its password masked."""
    problem: str

    template = "Redis at {url} refuses: {problem}"
    remedy = (
        "Correct GEODES_TASKS_REDIS_URL, or the password in GEODES_TASKS_REDIS_PASSWORD_FILE: a "
        "user of Redis that has this permission. After an upgrade, make the ACL file again "
        "(`geodes-tasks secrets DIR` keeps the passwords)."
    )


class DamagedRecordError(LedgerError):
    """The record of a download cannot be read: another program has written to the ledger."""

    download_id: str

    template = "{download_id}: the record is damaged"
    remedy = "Enqueue the item again."


class PrivateProcessError(LedgerError):
    """The private server or worker of this machine did not start, or ended by itself."""

    what: str
    log: str
    """Path of its log file."""
    tail: str
    """Last lines of the log."""

    template = "the {what} did not start; {log} ends with: {tail}"
    remedy = "The end of its log names the cause; correct it, then run the same command again."


class PrivateServerError(LedgerUnavailableError):
    """The private Redis server of a one-machine run ended, or accepts no commands."""

    # Its url is the folder of its state: the server has no address that a user could start.
    template = "the private Redis server in {url} {problem}"

    def __post_init__(self) -> None:
        """Name the folder in the remedy."""
        self.remedy = (
            "Run the same command again: it continues where this run stopped. If the volume of "
            f"{self.url} is full, make room first. If it ends like this again, remove {self.url}: "
            "only the records of this folder are lost, complete files are hashed once, and part "
            "files are continued."
        )
        super().__post_init__()
