"""Errors of an account: its quota, its key, its rights, and the trust in the portal."""

from __future__ import annotations

from geodes_tasks.errors.base_error import GeodesTasksError, Reaction

CONTINUE = "then run: geodes-tasks resume (on one machine: the same command again)."
"""How to continue after the key was replaced, on a cluster and on one machine."""
KEY_PLACE = (
    "put it in GEODES_API_KEY (of an account lab: GEODES_API_KEY_LAB), "
    "or in the file that GEODES_API_KEY_FILE (GEODES_API_KEY_LAB_FILE) names"
)
"""Where an account looks for its key."""


class AccountError(GeodesTasksError):
    """The portal gives nothing to this account now, or does not give this file to it."""


class QuotaError(AccountError):
    """The quota of the account is used up (HTTP 403, or 200 with JSON, in GEODES)."""

    href: str
    message: str
    """The portal's own words, or the quota of the settings."""
    wait_s: float | None = None
    """Seconds until the window reopens; None if unknown."""
    own: bool = False
    """True if the quota of the settings is used up: no request was sent to the portal."""

    reaction = Reaction.QUOTA
    template = "{href}: download quota used up: {message}"
    remedy = "Nothing to do: the account continues by itself when its window reopens."


class AccountPausedError(AccountError):
    """S3 did not give the file, and the account is paused at the portal."""

    href: str
    why: str
    """Reason of the pause."""

    reaction = Reaction.QUOTA
    template = "{href}: not requested, the account waits ({why})"
    remedy = "Nothing to do: the download continues when the account does."


class ThrottledError(AccountError):
    """The server answered HTTP 429 or SlowDown, or any status with Retry-After."""

    href: str
    retry_after_s: float | None
    """Seconds that the server asks the client to wait; None if it names none."""
    status: int = 429
    """HTTP status."""
    of_account: bool = True
    """False when a host that the portal redirected to answered: only this file waits."""

    reaction = Reaction.THROTTLED
    remedy = "Nothing to do: the download waits as long as the server asks for, then continues."

    def __str__(self) -> str:
        """Return the href and the wait."""
        wait = "no wait named" if self.retry_after_s is None else f"wait {self.retry_after_s:g} s"
        what = "too many requests" if self.status == 429 else f"HTTP {self.status}, not now"
        return f"{self.href}: {what} ({wait})"


class AuthError(AccountError):
    """The key or the credentials were refused."""

    href: str
    key_name: str
    """Where the key comes from and its last characters; never the whole key."""
    problem: str

    reaction = Reaction.AUTH
    template = "{problem} from {href}: {key_name} was refused"
    remedy = (
        f"Make a new key on the portal (profile, Authentication, API Key), {KEY_PLACE}, {CONTINUE}"
    )


class KeyMissingError(AuthError):
    """The portal gives files only with an API key, and none is configured."""

    template = "{href} needs an API key: {key_name} {problem}"
    remedy = (
        f"Make a key on the portal (profile, Authentication, API Key), {KEY_PLACE}, "
        f"or in pygeodes-config.json, {CONTINUE}"
    )


class ForbiddenError(AccountError):
    """The portal refuses this file to a key that it accepts elsewhere."""

    href: str
    key_name: str
    """Where the key comes from and its last characters; never the whole key."""
    problem: str

    template = (
        "{problem} from {href}: no right to this file, "
        "though the portal accepts {key_name} elsewhere"
    )
    remedy = (
        "Request on the portal the right to this product or its collection, then: "
        "geodes-tasks retry. The key is valid: the other files continue."
    )
