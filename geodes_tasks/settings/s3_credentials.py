"""S3 credentials of the settings: written there, or the answer of a command or a function."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings import user_calls
from geodes_tasks.settings.config import Config

SETTING = "GEODES_TASKS_S3_CREDENTIALS_COMMAND"
LIFE_SECONDS = 3600.0
"""Seconds that credentials without an expiry are taken to live, as those of CNES do."""
EARLY_SECONDS = 120.0
"""Seconds before their expiry at which credentials are replaced; a tenth of their life if less."""
MOST_DURATION = 1e8
"""Seconds up to which a number is a duration: as seconds since 1970 it would be before 1974."""

# A line that a shell could read: export AWS_ACCESS_KEY_ID='...'
_ASSIGNMENT = re.compile(r"^\s*(?:export\s+)?(\w+)=['\"]?(.*?)['\"]?\s*$", re.MULTILINE)
# Names as the AWS tools, its services, CNES's assumerole and people write them: in lower case,
# without underscores and without `aws` in front.
_NAMES = {
    "access": ("accesskeyid", "accesskey", "keyid", "key"),
    "secret": ("secretaccesskey", "secretkey", "secret"),
    "token": ("sessiontoken", "securitytoken", "token"),
    "expires": ("expiration", "expiry", "expires", "expiretime", "expiresat"),
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Key, secret and session token for S3, and how long they live."""

    access: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None
    """Aware; None when it is not known."""

    def due_in_s(self, now: datetime) -> float:
        """Return the seconds after which they should be replaced."""
        life_s = (self.expires - now).total_seconds() if self.expires else LIFE_SECONDS
        return life_s - min(EARLY_SECONDS, life_s / 10)


def supplier(settings: Config) -> Callable[[], Credentials] | None:
    """Return a function that fetches the credentials of the settings; None where they have none."""
    command = settings.s3_credentials_command.strip()
    access, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if command:
        return lambda: of_answer(user_calls.answer(SETTING, command))
    if not access or not secret:
        return None
    token = settings.aws_session_token
    return lambda: Credentials(str(access), str(secret), str(token) if token else None)


def of_answer(answer: object) -> Credentials:
    """Parse the output of a command or the result of a function.

    JSON or a mapping with key, secret, token and expiry under their usual names, at the top or
    below ``Credentials``; or lines as ``export AWS_ACCESS_KEY_ID=...``.

    Raises:
        ConfigError: key or secret is missing; nothing of the answer is quoted.
    """
    if isinstance(answer, Credentials):
        return answer
    fields = {
        re.sub(r"[^a-z]", "", str(name).lower()).removeprefix("aws"): value
        for name, value in _mapping(answer).items()
    }
    found = {
        part: next((fields[name] for name in names if fields.get(name)), None)
        for part, names in _NAMES.items()
    }
    if not found["access"] or not found["secret"]:
        raise ConfigError(SETTING, "its answer holds no access key id and secret access key")
    token = str(found["token"]) if found["token"] else None
    return Credentials(str(found["access"]), str(found["secret"]), token, _time(found["expires"]))


def _mapping(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = dict(_ASSIGNMENT.findall(str(answer)))
    if not isinstance(answer, dict):
        return {}
    inner = answer.get("Credentials") or answer.get("credentials")
    return inner if isinstance(inner, dict) else answer


def _time(value: object) -> datetime | None:
    """Return a time in ISO 8601, in seconds since 1970 or in seconds from now; else None."""
    with suppress(ValueError, OverflowError, OSError):
        if re.fullmatch(r"\s*[\d.]+\s*", str(value)):
            seconds = float(str(value))
            now_s = time.time() if seconds < MOST_DURATION else 0.0
            return datetime.fromtimestamp(now_s + seconds, UTC)
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
