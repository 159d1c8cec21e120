"""Settings: defaults, the user's pygeodes file, environment, flags; weakest first.

Nothing is read at import and nothing is ever written.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from geodes_tasks.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

PYGEODES_FILE = "pygeodes-config.json"
"""The file that pygeodes reads from the current folder; it serves here unchanged."""

# pygeodes key -> our setting; those that say nothing to us map to None.
_PYGEODES_KEYS: dict[str, str | None] = {
    "api_key": "api_key",
    "download_dir": "download_dir",
    "aws_access_key_id": "aws_access_key_id",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_token": "aws_session_token",
    "region_name": "region_name",
    "logging_level": None,
    "checksum_error": None,
    "use_async_requests": None,
    "nb_max_items": None,
}

ACCOUNT_NAME = r"^[\w.-]{1,64}$"
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_LONGEST_S = 1e9 - 1
"""Window of a quota: some thirty years, in as many digits as are read."""
_QUOTA = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{0,9})\s*(second|minute|hour|day)s?\Z")


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``count`` downloads in any window of ``seconds``."""

    count: int
    seconds: float

    @classmethod
    def parse(cls, value: Quota | str | None) -> Quota | None:
        """Read ``50/hour``, ``10/20seconds`` or ``off`` (None).

        Raises:
            ValueError: none of these.
        """
        if value is None or isinstance(value, Quota):
            return value
        text = str(value).strip().lower()
        if text in {"", "off", "none"}:
            return None
        match = _QUOTA.match(text)
        seconds = int(match[2] or 1) * _SECONDS[match[3]] if match else 0.0
        if match is None or int(match[1]) < 1 or not 1 <= seconds <= _LONGEST_S:
            raise ValueError(f"{value!r} is no quota; write 50/hour, 10/20seconds or off")
        return cls(int(match[1]), seconds)

    def __str__(self) -> str:
        """Give a form that ``parse`` reads."""
        return f"{self.count}/{self.seconds:.15g}seconds"


@lru_cache(maxsize=1024)
def is_loopback(host: str | None) -> bool:
    """Tell whether a host name is this machine itself, as far as the name shows."""
    if host in {"localhost", "ip6-localhost"}:
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def masked(url: str) -> str:
    """Give the URL with its password replaced by stars."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    # The query may hold a password too: redis-py takes ?password=.
    parts = parts._replace(query="")
    user, at, host = parts.netloc.rpartition("@")
    if at and ":" in user:
        parts = parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}")
    return urlunsplit(parts)


def _web_url(value: object) -> str:
    text = str(value).strip()
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise ValueError("an address with a user name or password in it is not taken")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not an address; write https://host")
    if parts.port is None and parts.netloc.endswith(":"):
        raise ValueError(f"{text!r} lacks its port")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"{text!r}: plain http is taken for loopback only; write https://")
    return text.rstrip("/")


def _secret_word(value: object) -> object:
    """Strip what copying a key brings along; refuse what would break a header."""
    if not isinstance(value, str):
        return value
    word = value.strip()
    if any(not character.isprintable() or character.isspace() for character in word):
        raise ValueError("holds white space or control characters; copy the key again")
    return word or None


def _hosts(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _paths(value: object) -> object:
    if not isinstance(value, str):
        return value
    paths = tuple(Path(part) for part in value.split(os.pathsep) if part.strip())
    if relative := [str(path) for path in paths if not path.is_absolute()]:
        raise ValueError(f"{relative[0]!r} is a relative path; a root is an absolute one")
    return paths


def _with_password(url: str, file: Path) -> str:
    """Put the password of a file into an address that names none; sockets need none."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or parts.password:
        return url
    try:
        password = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        # Not the error's own text: that of a wrong encoding quotes the file.
        problem = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"its password file {file} cannot be read: {problem}") from None
    if not password:
        raise ValueError(f"its password file {file} is empty")
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


WebUrl = Annotated[str, BeforeValidator(_web_url)]
SecretWord = Annotated[SecretStr | None, BeforeValidator(_secret_word)]
QuotaSetting = Annotated[Quota | None, BeforeValidator(Quota.parse), NoDecode]


def _named(*names: str) -> Any:
    """Give the environment names of a field that does not follow the prefix."""
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Every setting, typed. The description of each field is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix="GEODES_TASKS_",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    api_key: SecretWord = Field(
        None,
        validation_alias=_named("GEODES_API_KEY"),
        description="Key of the portal account.",
    )
    api_key_file: Path | None = Field(
        None,
        validation_alias=_named("GEODES_API_KEY_FILE"),
        description="File that holds the key; read anew when it changes.",
    )
    aws_access_key_id: SecretWord = Field(
        None,
        validation_alias=_named("AWS_ACCESS_KEY_ID"),
        description="S3 credentials; the rest of the AWS chain is honoured too.",
    )
    aws_secret_access_key: SecretWord = Field(
        None,
        validation_alias=_named("AWS_SECRET_ACCESS_KEY"),
        description="S3 credentials.",
    )
    aws_session_token: SecretWord = Field(
        None,
        validation_alias=_named("AWS_SESSION_TOKEN"),
        description="S3 credentials.",
    )
    s3_credentials_command: str = Field(
        "",
        description="Command that prints fresh S3 credentials as JSON (key, secret, token, expiry),"
        " or `module:function` that gives them.",
    )
    s3_again_seconds: float = Field(
        300.0, gt=0, description="How long a datalake out of reach is left alone by the fleet."
    )
    region_name: str = Field(
        "us-east-1",
        validation_alias=_named("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="S3 region for the signature.",
    )
    portal_url: WebUrl = Field(
        "https://geodes-portal.cnes.fr",
        description="The portal. Plain http is taken for loopback only.",
    )
    # Before the address: its validator reads it.
    redis_password_file: Path | None = Field(
        None,
        description="File that holds the password for GEODES_TASKS_REDIS_URL; read at the start.",
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis of the cluster: redis://, rediss:// or redis+socket:///path.",
    )
    download_dir: Path = Field(Path(), description="Where files go.")
    download_roots: Annotated[tuple[Path, ...], BeforeValidator(_paths), NoDecode] = Field(
        (),
        description="A worker writes below these folders only (colon-separated); "
        "not set: wherever a batch says.",
    )
    s3_endpoint_url: WebUrl = Field(
        "https://s3.datalake.cnes.fr", description="The S3 datalake of CNES, or another."
    )
    state_dir: Path = Field(
        Path("~/.local/state/geodes-tasks"),
        description="Where one-machine mode keeps its ledger, "
        "and a worker the id of the ledger that it used last.",
    )
    account: str = Field(
        "default", pattern=ACCOUNT_NAME, description="Name of the account, the unit of limits."
    )
    quota: QuotaSetting = Field(
        Quota(50, 3600.0), description="Downloads that the account may start: 50/hour, off."
    )
    max_concurrent: int = Field(
        4, ge=1, description="Transfers under way at once, whole fleet, per account."
    )
    lease_seconds: float = Field(
        60.0, ge=1, description="A worker silent for so long has lost its downloads."
    )
    connect_seconds: float = Field(15.0, gt=0, description="Longest wait for a connection.")
    first_byte_seconds: float = Field(
        120.0, gt=0, description="Longest wait for the first byte of an answer."
    )
    stall_seconds: float = Field(
        60.0, gt=0, description="Longest silence within a body; slow but steady is never cut."
    )
    offline_poll_seconds: float = Field(
        600.0, gt=0, description="How often files on tape are asked for, all at once."
    )
    probe_seconds: float = Field(
        60.0, gt=0, description="How often one request tries whether a used-up quota is back."
    )
    max_attempts: int = Field(8, ge=1, description="Attempts that moved bytes before FAILURE.")
    backoff_seconds: float = Field(
        2.0, gt=0, description="Wait after a first failure; doubled each time, 5 minutes at most."
    )
    grace_seconds: float = Field(
        10.0, ge=0, description="How long a stopping worker lets downloads end by themselves."
    )
    on_file: str = Field("", description="Command or webhook for each finished file.")
    on_batch: str = Field("", description="Command or webhook for each finished batch.")
    hook_seconds: float = Field(60.0, gt=0, description="Longest time that such a call may take.")
    ca_bundle: Path | None = Field(
        None,
        validation_alias=_named("GEODES_TASKS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
        description="Certificates of a private authority; TLS is always verified.",
    )
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_hosts), NoDecode] = Field(
        (),
        description="Other hosts whose hrefs are opened, without any key (comma-separated).",
    )
    key_prefix: str = Field(
        "geodes:", pattern=r"^[\w.:-]{1,64}$", description="Prefix of every key in Redis."
    )

    @field_validator("redis_url")
    @classmethod
    def _complete(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        file = info.data.get("redis_password_file")
        return SecretStr(_with_password(url.get_secret_value(), file)) if file else url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a fixed signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take flags over environment over file."""
        return init_settings, env_settings, PygeodesFile(settings_cls)

    _key_variable: str = PrivateAttr("GEODES_API_KEY")

    @property
    def key_variable(self) -> str:
        """The variable that holds the key of this account; with ``_FILE`` it names a file."""
        return self._key_variable

    def key(self) -> str | None:
        """Give the API key as it is now; the file is read at each call.

        Raises:
            ConfigError: the file that should hold it cannot be read.
        """
        if self.api_key_file is not None:
            try:
                text = self.api_key_file.expanduser().read_text(encoding="utf-8")
                return str(_secret_word(text) or "") or None
            except UnicodeDecodeError:
                # Not chained: the error's text quotes the file.
                variable = f"{self.key_variable}_FILE"
                raise ConfigError(variable, "the file is not UTF-8 text") from None
            except (OSError, ValueError) as error:
                raise ConfigError(f"{self.key_variable}_FILE", str(error)) from error
        return self.api_key.get_secret_value() if self.api_key else None

    def key_name(self) -> str:
        """Name the key for messages: where it comes from and its last four characters."""
        origin = (
            f"{self.key_variable}_FILE ({self.api_key_file})"
            if self.api_key_file
            else self.key_variable
        )
        key = self.key()
        return (
            f"the key in {origin}, ending in ...{key[-4:]},"
            if key and len(key) > 8
            else (f"the key in {origin}")
        )


def named_key(account: str) -> str:
    """Name the variable that holds the key of a named account.

    Raises:
        ConfigError: this is no name, or it would read as that of a file.
    """
    if not re.fullmatch(ACCOUNT_NAME, account):
        raise ConfigError("GEODES_TASKS_ACCOUNT", f"{account!r} is no name for an account")
    word = re.sub(r"\W", "_", account).upper()
    if word.endswith("FILE"):
        problem = f"account {account!r}: a name that ends in `file` cannot have a key of its own"
        raise ConfigError("GEODES_TASKS_ACCOUNT", problem, "Choose another name.")
    return f"GEODES_API_KEY_{word}"


def of_account(settings: Settings, account: str) -> Settings:
    """Give the settings with the key of one account; all else is the same for all.

    ``GEODES_API_KEY`` is the key of the account that the settings name. Every account may have
    one in ``GEODES_API_KEY_<NAME>`` or a file named by ``GEODES_API_KEY_<NAME>_FILE``.

    Raises:
        ConfigError: the key or the name cannot be used.
    """
    variable = named_key(account)
    text, file = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if account == settings.account and not (text or file):
        return settings
    try:
        key = _secret_word(text)
    except ValueError as error:
        raise ConfigError(variable, str(error)) from None
    found = settings.model_copy(
        update={
            "account": account,
            "api_key": SecretStr(str(key)) if key else None,
            "api_key_file": Path(file) if file else None,
        }
    )
    found._key_variable = variable
    return found


def named_accounts(settings: Settings) -> list[str]:
    """Name the accounts that have a key of their own here, in lower case, and the settings' own."""
    found = {settings.account}
    for name, value in os.environ.items():
        word = name.removeprefix("GEODES_API_KEY_").removesuffix("_FILE")
        if value and name.startswith("GEODES_API_KEY_") and name != "GEODES_API_KEY_FILE":
            found.add(word.lower())
    return sorted(found)


def loose_key_files(settings: Settings) -> list[Path]:
    """Name the key files that others than their owner may read."""
    loose = []
    for account in named_accounts(settings):
        file = of_account(settings, account).api_key_file
        with contextlib.suppress(OSError):
            if file is not None and file.expanduser().stat().st_mode & 0o077:
                loose.append(file)
    return loose


_named_file: ContextVar[Path | None] = ContextVar("_named_file", default=None)
"""The pygeodes file that :func:`load` was told to read."""


class PygeodesFile(PydanticBaseSettingsSource):
    """The settings that a pygeodes file gives: one named, or that in the current folder."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Unused: the whole file is read at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """Read the file when it is there; one that was named must be there."""
        named, usual = _named_file.get(), Path(PYGEODES_FILE)
        if named is not None:
            return read_pygeodes_file(named)
        return read_pygeodes_file(usual) if usual.is_file() else {}


def read_pygeodes_file(path: Path) -> dict[str, Any]:
    """Read pygeodes' own configuration file, unchanged; unknown keys warn.

    Raises:
        ConfigError: not JSON, or no object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(str(path), "is not a JSON object")
    unknown = sorted(set(data) - set(_PYGEODES_KEYS))
    if unknown:
        logger.warning("%s: unknown keys are ignored: %s", path, ", ".join(unknown))
    return _translated(data)


def _translated(data: Mapping[str, Any]) -> dict[str, Any]:
    pairs = ((_PYGEODES_KEYS.get(key), value) for key, value in data.items())
    return {name: value for name, value in pairs if name and value not in (None, "")}


def load(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings now.

    Args:
        config: A pygeodes file instead of the one in the current folder.
        **flags: Fields of :class:`Settings` that win over everything; None is not given.

    Raises:
        ConfigError: a value cannot be used; the message names its setting.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    token = _named_file.set(config)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise _as_config_error(error) from None
    finally:
        _named_file.reset(token)


def _as_config_error(error: ValidationError) -> ConfigError:
    """Say the first problem in one line, without the value: it may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    return ConfigError(environment_name(name), first["msg"].removeprefix("Value error, "))


def environment_name(field: str) -> str:
    """Name the environment variable that sets a field."""
    info = Settings.model_fields.get(field)
    alias = info.validation_alias if info else None
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return field if field.isupper() else f"GEODES_TASKS_{field.upper()}"


def environment(settings: Settings) -> dict[str, str]:
    """Give the variables from which a child process reads the same settings."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, Path):
            value = value.expanduser().absolute()
        if isinstance(value, tuple):
            between = os.pathsep if name == "download_roots" else ","
            value = between.join(map(str, value))
        if value is not None:
            variables[environment_name(name)] = str(value)
    if settings.quota is None:
        variables[environment_name("quota")] = "off"
    return variables
