"""The configuration: defaults, files, environment, keywords; weakest first.

Nothing is read at import and nothing is ever written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from platformdirs import user_state_path
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
from pydantic_settings import NoDecode

from geodes_tasks.settings.base_config import FUNCTIONS, POSITIONAL, BaseConfig
from geodes_tasks.settings.files import read_file, read_key, with_password
from geodes_tasks.settings.quota import Quota, parse_rate
from geodes_tasks.settings.redis_address import checked
from geodes_tasks.settings.secret import Secret, secret_word
from geodes_tasks.settings.urls import web_url

ACCOUNT_NAME = r"^[\w.-]{1,64}$"
"""Names of accounts: they become part of keys in Redis and of environment variables."""
WebUrl = Annotated[str, BeforeValidator(web_url)]
SecretWord = Annotated[Secret | None, BeforeValidator(secret_word)]
Folder = Annotated[str, BeforeValidator(lambda path: str(Path(path).expanduser().absolute()))]
# NoDecode: without it pydantic-settings reads these variables as JSON.
QuotaSetting = Annotated[Quota | None, BeforeValidator(Quota.parse), NoDecode]
Folders = Annotated[tuple[Path, ...], NoDecode]
Hosts = Annotated[tuple[str, ...], NoDecode]


def setting(default: Any, description: str, *variables: str, **limits: Any) -> Any:
    """Return a field; ``variables`` are its own in the environment, the strongest first."""
    alias = AliasChoices(*variables) if variables else None
    return Field(default, description=description, validation_alias=alias, **limits)


class Config(BaseConfig):
    """The configuration; the description of each field is its documentation.

    Takes pygeodes' names (``api_key``, ``download_dir``, ``nb_max_items``, ...), in pygeodes' order
    too, and all others by keyword. A value that is not given comes from the environment, then from
    ``pygeodes-config.json`` in the current folder, then from ``config.toml``, then from the
    defaults. ``s3_credentials`` may be a function that returns fresh S3 credentials (as CNES's
    ``assumerole`` does); workers import it by its name, so define it in a module of its own.

    Examples:
        >>> from geodes_tasks import Config
        >>> Config(quota="50/hour", max_concurrent=2).quota
        Quota(count=50, seconds=3600.0)
    """

    api_key: SecretWord = setting(None, "Key of the portal account.", "GEODES_API_KEY")
    api_key_file: Path | None = setting(
        None, "File that holds the key; read again when it changes.", "GEODES_API_KEY_FILE"
    )
    aws_access_key_id: SecretWord = setting(
        None, "S3 credentials; the other steps of the AWS chain work too.", "AWS_ACCESS_KEY_ID"
    )
    aws_secret_access_key: SecretWord = setting(None, "S3 credentials.", "AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretWord = setting(None, "S3 credentials.", "AWS_SESSION_TOKEN")
    s3_credentials_command: str = setting(
        "",
        "Command that prints fresh S3 credentials as JSON (key, secret, token, expiry), or "
        "`module:function` that returns them.",
    )
    s3_again_seconds: float = setting(
        300.0, "Seconds for which workers skip S3 that could not be reached.", gt=0
    )
    region_name: str = setting(
        "us-east-1", "S3 region, for signatures.", "AWS_REGION", "AWS_DEFAULT_REGION"
    )
    portal_url: WebUrl = setting(
        "https://geodes-portal.cnes.fr", "The portal. Plain http is accepted for loopback only."
    )
    # Both above redis_url: pydantic validates in this order, and the validator of redis_url
    # reads them.
    ca_bundle: Path | None = setting(
        None,
        "Certificates to trust, also for rediss://; not set: those of this system. TLS is "
        "always verified.",
        "GEODES_TASKS_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    )
    redis_password_file: Path | None = setting(
        None, "File that holds the password for GEODES_TASKS_REDIS_URL; read at the start."
    )
    redis_url: Secret = setting(
        Secret("redis://127.0.0.1:6379/0"),
        "Redis of the cluster: redis://, rediss://, "
        "sentinel://H1:26379;H2:26379/0?master_name=NAME, or redis+socket:///path.",
    )
    download_dir: Folder = setting(".", "Folder that files are downloaded into.")
    download_roots: Folders = setting(
        (),
        "A worker writes below these folders only (colon-separated); not set: below its "
        "GEODES_TASKS_DOWNLOAD_DIR.",
    )
    s3_endpoint_url: WebUrl = setting(
        "https://s3.datalake.cnes.fr", "The S3 datalake of CNES, or another."
    )
    # XDG Base Directory Specification: state lives apart from configuration and cache.
    state_dir: Path = Field(
        default_factory=lambda: user_state_path("geodes-tasks"),
        description="Folder in which one-machine mode keeps its ledger, "
        "and a worker the id of the ledger that it used last.",
    )
    account: str = setting(
        "default", "Name of the account, the unit of limits.", pattern=ACCOUNT_NAME
    )
    # GEODES counts 50 downloads in an hour for each account (GEODES section 3.3).
    quota: QuotaSetting = setting(
        Quota(50, 3600.0), "Downloads that the account may start: 50/hour, or off."
    )
    max_concurrent: int = setting(
        4, "Concurrency limit: parallel transfers per account, over all workers.", ge=1
    )
    rate: Annotated[int | None, BeforeValidator(parse_rate)] = setting(
        None,
        "Bytes a second of one worker with all its processes, HTTP and S3 together: 20MB, "
        "500kB, off.",
    )
    lease_seconds: float = setting(
        60.0,
        "If a worker does not renew its lease for this long, its downloads are given to other "
        "workers.",
        ge=1,
    )
    connect_seconds: float = setting(15.0, "Timeout of a connection attempt.", gt=0)
    first_byte_seconds: float = setting(120.0, "Timeout of the first byte of an answer.", gt=0)
    stall_seconds: float = setting(
        60.0, "Timeout between two chunks of a body; a slow transfer is not cut.", gt=0
    )
    offline_poll_seconds: float = setting(
        600.0, "Seconds between two polls for files on tape; one is for all.", gt=0
    )
    keep_days: float | None = setting(
        None, "Days for which finished batches are kept; one-machine mode: 30.", gt=0
    )
    probe_seconds: float = setting(
        60.0, "Seconds between two tests whether a used-up quota is back.", gt=0
    )
    max_attempts: int = setting(8, "Counted attempts before FAILURE.", ge=1)
    backoff_seconds: float = setting(
        2.0, "Seconds to the first retry; doubled each time, up to 300.", gt=0
    )
    grace_seconds: float = setting(
        10.0, "Seconds that a stopping worker leaves to running downloads.", ge=0
    )
    # Not shown: the address of a webhook is a secret for most services.
    on_file: str = setting("", "Command or webhook for each finished file.", repr=False)
    on_batch: str = setting("", "Command or webhook for each finished batch.", repr=False)
    hook_seconds: float = setting(60.0, "Timeout of such a command or webhook.", gt=0)
    log_format: Literal["text", "json"] = setting(
        "text", "Form of a worker's log: `text`, or `json`, an object a line."
    )
    allowed_hosts: Hosts = setting(
        (), "Other hosts whose hrefs are opened (comma-separated); no key is sent to them."
    )
    key_prefix: str = setting(
        "geodes:", "Prefix of every key in Redis.", pattern=r"^[\w.:-]{1,64}$"
    )

    nb_max_items: int = setting(800_000_000, "Items that a search with `get_all` may find.", ge=1)
    logging_level: str = setting("INFO", "Of pygeodes; nothing depends on it.")
    checksum_error: bool = setting(True, "Of pygeodes; checksums are always verified.")
    use_async_requests: bool = setting(True, "Of pygeodes; nothing depends on it.")

    def __init__(self, *positional: Any, **given: Any) -> None:
        """Use the given values; None counts as not given.

        Raises:
            TypeError: there is no such name.
            ConfigError: a value cannot be used; its setting is named, the value is not quoted.
        """
        given = dict(zip(POSITIONAL, positional, strict=False)) | given
        if function := given.pop("s3_credentials", None):
            name = getattr(function, "__name__", "credentials").strip("<>")
            given["s3_credentials_command"] = name = f"{function.__module__}:{name}"
            FUNCTIONS[name] = function
        for name in given:
            if name not in type(self).model_fields:
                raise TypeError(f"Config has no {name}{self.nearest(name)}")
        try:
            super().__init__(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise self.config_error(error) from None

    @field_validator("redis_url")
    @classmethod
    def _complete(cls, url: Secret, info: ValidationInfo) -> Secret:
        text, file = str(url), info.data.get("redis_password_file")
        bundle = info.data.get("ca_bundle")
        is_tls = text.startswith("rediss:") or (text.startswith("sentinel:") and "ssl=" in text)
        # In the address, where redis-py, the broker and the children all read it.
        if bundle and is_tls and "ssl_ca_certs" not in text:
            between = "&" if "?" in text else "?"
            text += f"{between}ssl_ca_certs={quote(str(bundle.expanduser()))}"
        return Secret(checked(with_password(text, file) if file else text))

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("download_roots", mode="before")
    @classmethod
    def _roots(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        paths = tuple(Path(part) for part in value.split(os.pathsep) if part.strip())
        if relative := [str(path) for path in paths if not path.is_absolute()]:
            raise ValueError(f"{relative[0]!r} is a relative path; a root is an absolute one")
        return paths

    _key_variable: str = PrivateAttr("GEODES_API_KEY")

    @property
    def key_variable(self) -> str:
        """The variable that holds the key of this account; with ``_FILE`` it names a file."""
        return self._key_variable

    @property
    def allowed_folders(self) -> tuple[Path, ...]:
        """The absolute folders below which a worker with these settings writes."""
        return self.download_roots or (Path(self.download_dir).expanduser().absolute(),)

    def key(self) -> str | None:
        """Return the API key, None without one; its file is read again at each call.

        Raises:
            ConfigError: the file that should hold it cannot be read.
        """
        if self.api_key_file is not None:
            return read_key(self.api_key_file, f"{self.key_variable}_FILE")
        return self.api_key

    def key_name(self) -> str:
        """Return where the key comes from and its last four characters, for messages.

        Raises:
            ConfigError: the file that should hold it cannot be read.
        """
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

    def __hash__(self) -> int:
        """Return a hash of the present values, for caches that compare the values too."""
        return hash(tuple(self.__dict__.values()))

    @property
    def has_api_key(self) -> bool:
        """Return whether there is an API key."""
        return bool(self.key())


def load(config: Path | None = None, **flags: object) -> Config:
    """Return the settings as they are now.

    Args:
        config: A file that wins over the environment and the usual files.
        **flags: Fields of :class:`Config`, stronger than all other settings; None is not given.

    Raises:
        ConfigError: a value cannot be used; the message names its setting.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    return Config(**(read_file(config, Config.model_fields) if config else {}) | given)


def of(conf: Config | None) -> Config:
    """Return the configuration that a caller gave; for None that of environment and files.

    Raises:
        TypeError: it is something else.
        ConfigError: a value cannot be used.
    """
    if conf is not None and not isinstance(conf, Config):
        raise TypeError(f"conf is a Config(...), not {conf!r}")
    return load() if conf is None else conf


def environment_name(field: str) -> str:
    """Return the environment variable that sets a field, the strongest if there are two."""
    return Config.variables(field)[0]


def environment(settings: Config) -> dict[str, str]:
    """Return the variables from which a child process reads the same settings, secrets included."""
    found = {}
    for name in Config.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, Path):
            value = value.expanduser().absolute()
        if isinstance(value, tuple):
            value = (os.pathsep if name == "download_roots" else ",").join(map(str, value))
        if name == "quota" and value is None:
            value = "off"
        if value not in (None, ""):
            found[environment_name(name)] = str(value)
    return found
