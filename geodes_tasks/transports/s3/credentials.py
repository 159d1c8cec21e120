"""S3 credentials of the settings: given, or fetched by a command or a function of the user."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.base_config import FUNCTIONS
from geodes_tasks.settings.config import Settings

SETTING = "GEODES_TASKS_S3_CREDENTIALS_COMMAND"
LIFE_SECONDS = 3600.0
"""Seconds that credentials without an expiry are taken to live, as those of CNES do."""
EARLY_SECONDS = 120.0
"""Seconds before their expiry at which credentials are replaced; a tenth of their life if less."""
COMMAND_SECONDS = 60.0
"""Seconds that the command may take, at most."""
MOST_DURATION = 1e8
"""Seconds up to which a number is a duration: as seconds since 1970 it would be before 1974."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
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

    def end(self, now: datetime) -> datetime:
        """Return when they expire."""
        return self.expires or now + timedelta(seconds=LIFE_SECONDS)

    def due_in_s(self, now: datetime) -> float:
        """Return the seconds after which they should be replaced."""
        life_s = (self.end(now) - now).total_seconds()
        return life_s - min(EARLY_SECONDS, life_s / 10)


def supplier(settings: Settings) -> Callable[[], Credentials] | None:
    """Return a function that fetches the credentials of the settings; None where they have none.

    The function raises ConfigError where that fails.
    """
    command = settings.s3_credentials_command.strip()
    access, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if _FUNCTION.match(command):
        return lambda: of_answer(_result(command))
    if command:
        return lambda: of_answer(_output(command))
    if not access or not secret:
        return None
    token = settings.aws_session_token
    return lambda: Credentials(str(access), str(secret), str(token) if token else None)


def _result(name: str) -> Any:
    """Return the result of a function of the user."""
    if name not in FUNCTIONS:
        module, _, attribute = name.partition(":")
        try:
            FUNCTIONS[name] = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(SETTING, f"{name} cannot be imported here ({error})") from error
    try:
        return FUNCTIONS[name]()
    except Exception as error:  # noqa: BLE001 - a user's function may raise anything
        # Not chained, and named by its class only: the text might quote a secret.
        raise ConfigError(SETTING, f"the function failed ({type(error).__name__})") from None


def _output(command: str) -> str:
    """Return the output of a command of the user."""
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(SETTING, f"the command cannot be run ({error})") from error
    except subprocess.TimeoutExpired:
        # Not chained: the error holds what was printed so far.
        problem = f"the command did not end within {COMMAND_SECONDS:g} s"
        raise ConfigError(SETTING, problem) from None
    if done.returncode:
        raise ConfigError(SETTING, f"the command ended with {done.returncode}")
    return done.stdout.decode("utf-8", "replace")


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
            lines = (line.strip().removeprefix("export ") for line in str(answer).splitlines())
            pairs = (line.partition("=") for line in lines)
            answer = {
                name.strip(): value.strip().strip("'\"") for name, equals, value in pairs if equals
            }
    if isinstance(answer, dict):
        inner = answer.get("Credentials") or answer.get("credentials")
        return inner if isinstance(inner, dict) else answer
    return {}


def _time(value: object) -> datetime | None:
    """Return a time in ISO 8601, in seconds since 1970 or in seconds from now; else None."""
    try:
        if isinstance(value, datetime):
            moment = value
        elif re.fullmatch(r"\s*[\d.]+\s*", str(value)):
            seconds = float(str(value))
            if seconds < MOST_DURATION:
                return datetime.now(UTC) + timedelta(seconds=seconds)
            moment = datetime.fromtimestamp(seconds, UTC)
        else:
            moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
