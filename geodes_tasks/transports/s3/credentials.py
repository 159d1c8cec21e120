"""Fresh S3 credentials from a command or a function: those of CNES live for an hour only.

Neither boto3 nor botocore is loaded here: whether there are credentials at all is asked by every
worker, also where there are none.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.base_config import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geodes_tasks.settings.config import Settings

SETTING = "GEODES_TASKS_S3_CREDENTIALS_COMMAND"
COMMAND_SECONDS = 60.0
"""Seconds that the command may take, at most."""
LIFE_SECONDS = 3600.0
"""Seconds that credentials without an end are taken to live, as those of CNES do."""
EARLY_SECONDS = 120.0
"""Seconds before their end at which credentials are replaced; a tenth of their life if less."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
# Names as the AWS tools, its services, CNES's assumerole and people write them, folded.
_NAMES = {
    "access": ("accesskeyid", "accesskey", "keyid", "key"),
    "secret": ("secretaccesskey", "secretkey", "secret"),
    "token": ("sessiontoken", "securitytoken", "token"),
    "expires": ("expiration", "expiry", "expires", "expiretime", "expiresat"),
}
# Where the AWS chain finds something; without all of these botocore need not be asked.
_HINTS = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "BOTO_CONFIG",
)  # fmt: skip
_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
    "": "~/.boto",
}


@dataclass(frozen=True, slots=True)
class Fresh:
    """Credentials and how long they live."""

    access: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires: datetime | None = None
    """Aware; None when they do not say it."""

    def due_in_s(self, now: datetime) -> float:
        """Return the seconds after which they should be replaced."""
        life = (self.expires - now).total_seconds() if self.expires else LIFE_SECONDS
        return life - min(EARLY_SECONDS, life / 10)


def provider(settings: Settings) -> Callable[[], Fresh] | None:
    """Return the function that fetches fresh credentials, by the settings; None without one."""
    command = settings.s3_credentials_command.strip()
    if not command:
        return None
    if _FUNCTION.match(command):
        return lambda: of_answer(_function(command)())
    return lambda: of_answer(_output(command))


def _function(name: str) -> Callable[[], Any]:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    module, _, attribute = name.partition(":")
    try:
        function: Callable[[], Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(SETTING, f"{name} cannot be imported here ({error})") from error
    return function


def _output(command: str) -> str:
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


def of_answer(answer: object) -> Fresh:
    """Read what a command printed or a function gave.

    JSON or a mapping with key, secret, token and expiry under their usual names, at the top or
    below ``Credentials``; or lines as ``export AWS_ACCESS_KEY_ID=...``.

    Raises:
        ConfigError: key or secret is missing; nothing of the answer is quoted.
    """
    if isinstance(answer, Fresh):
        return answer
    names = _folded(_mapping(answer))
    found = {part: _first(names, known) for part, known in _NAMES.items()}
    if not found["access"] or not found["secret"]:
        raise ConfigError(SETTING, "its answer holds no access key id and secret access key")
    return Fresh(
        str(found["access"]),
        str(found["secret"]),
        str(found["token"]) if found["token"] else None,
        _moment(found["expires"]),
    )


def _mapping(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = _of_lines(str(answer))
    if isinstance(answer, dict):
        inner = answer.get("Credentials") or answer.get("credentials")
        return inner if isinstance(inner, dict) else answer
    return {}


def _of_lines(text: str) -> dict[str, str]:
    words = (line.strip().removeprefix("export ").partition("=") for line in text.splitlines())
    return {name.strip(): value.strip().strip("'\"") for name, equals, value in words if equals}


def _folded(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        re.sub(r"[^a-z]", "", str(name).lower()).removeprefix("aws"): value
        for name, value in answer.items()
    }


def _first(names: Mapping[str, Any], known: tuple[str, ...]) -> Any:
    return next((names[name] for name in known if names.get(name)), None)


def _moment(value: object) -> datetime | None:
    """Read a time: ISO 8601, seconds since 1970, or seconds from now; None when it is none."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        seconds = float(str(value))
    except ValueError:
        return _iso(str(value))
    if seconds < 1e8:  # a duration: as a date it would lie before 1974
        return datetime.now(UTC) + timedelta(seconds=seconds)
    return datetime.fromtimestamp(seconds, UTC)


def _iso(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def are_thinkable(settings: Settings) -> bool:
    """Return whether there may be credentials: only then is botocore worth loading."""
    if settings.s3_credentials_command or settings.aws_access_key_id:
        return True
    if any(os.environ.get(name) for name in _HINTS):
        return True
    files = (os.environ.get(name) or usual for name, usual in _FILES.items())
    return any(Path(file).expanduser().is_file() for file in files)
