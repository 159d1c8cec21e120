"""The configuration: defaults, files, environment, keywords; weakest first.

Nothing is read at import and nothing is ever written.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from platformdirs import user_state_path

from geodes_tasks.settings.base_config import BaseConfig
from geodes_tasks.settings.fields import (
    Field,
    boolean,
    matching,
    number,
    one_of,
    optional,
    text,
)
from geodes_tasks.settings.files import read_file, read_key, with_password
from geodes_tasks.settings.quota import Quota, parse_rate
from geodes_tasks.settings.redis_address import checked
from geodes_tasks.settings.secret import Secret, secret_word
from geodes_tasks.settings.urls import web_url

ACCOUNT_NAME = r"[\w.-]{1,64}"
"""Names of accounts: they become part of keys in Redis and of environment variables."""
positive = number(float, above=0)


def folder(value: Any) -> str:
    """Return the absolute path of a folder, which need not exist.

    Raises:
        ValueError: it is relative to a current folder that was removed, or below an unknown home.
    """
    try:
        return str(Path(value).expanduser().absolute())
    except FileNotFoundError:
        raise ValueError("is relative, and the current folder was removed") from None
    except RuntimeError as error:
        raise ValueError(f"{value}: {error}") from None


def hosts(value: Any) -> tuple[str, ...]:
    """Return the names of hosts in a text with commas or in a list."""
    names = value.split(",") if isinstance(value, str) else map(text, value)
    return tuple(name.strip() for name in names if name.strip())


def roots(value: Any) -> tuple[Path, ...]:
    """Return the folders in a text with colons or in a list.

    Raises:
        ValueError: one of them is a relative path.
    """
    names = value.split(os.pathsep) if isinstance(value, str) else map(str, value)
    paths = tuple(Path(name) for name in names if name.strip())
    if relative := [str(path) for path in paths if not path.is_absolute()]:
        raise ValueError(f"{relative[0]!r} is a relative path; a root is an absolute one")
    return paths


class RedisAddress(Field[Secret]):
    """The address of Redis, complete with the password and certificates of other settings."""

    def parsed(self, config: Any, value: object) -> Secret:
        """Return the address as redis-py, the broker and child processes read it."""
        url = str(Secret.of(value))
        is_tls = url.startswith("rediss:") or (url.startswith("sentinel:") and "ssl=" in url)
        if config.ca_bundle and is_tls and "ssl_ca_certs" not in url:
            between = "&" if "?" in url else "?"
            url += f"{between}ssl_ca_certs={quote(str(config.ca_bundle.expanduser()))}"
        if config.redis_password_file:
            url = with_password(url, config.redis_password_file)
        return Secret(checked(url))


class Config(BaseConfig):
    """The configuration.

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

    api_key = Field(None, secret_word, "GEODES_API_KEY")
    """Key of the portal account."""
    api_key_file = Field(None, optional(Path), "GEODES_API_KEY_FILE")
    """File that holds the key; read again when it changes."""
    aws_access_key_id = Field(None, secret_word, "AWS_ACCESS_KEY_ID")
    """S3 credentials; the other steps of the AWS chain work too."""
    aws_secret_access_key = Field(None, secret_word, "AWS_SECRET_ACCESS_KEY")
    """S3 credentials."""
    aws_session_token = Field(None, secret_word, "AWS_SESSION_TOKEN")
    """S3 credentials."""
    s3_credentials_command = Field("", text)
    """Command that prints fresh S3 credentials as JSON (key, secret, token, expiry), or
    `module:function` that returns them.
    """
    s3_again_seconds = Field(300.0, positive)
    """Seconds for which workers skip S3 that could not be reached."""
    region_name = Field("us-east-1", text, "AWS_REGION", "AWS_DEFAULT_REGION")
    """S3 region, for signatures."""
    portal_url = Field("https://geodes-portal.cnes.fr", web_url)
    """The portal. Plain http is accepted for loopback only."""
    # Both above redis_url, which is parsed with them.
    ca_bundle = Field(
        None, optional(Path), "GEODES_TASKS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"
    )
    """Certificates to trust, also for rediss://; not set: those of this system. TLS is always
    verified.
    """
    redis_password_file = Field(None, optional(Path))
    """File that holds the password for GEODES_TASKS_REDIS_URL; read at the start."""
    redis_url = RedisAddress("redis://127.0.0.1:6379/0", Secret.of)
    """Redis of the cluster: redis://, rediss://, sentinel://H1:26379;H2:26379/0?master_name=NAME,
    or redis+socket:///path.
    """
    download_dir = Field(".", folder)
    """Folder that files are downloaded into."""
    download_roots = Field((), roots)
    """A worker writes below these folders only (colon-separated); not set: below its
    GEODES_TASKS_DOWNLOAD_DIR.
    """
    s3_endpoint_url = Field("https://s3.datalake.cnes.fr", web_url)
    """The S3 datalake of CNES, or another."""
    # XDG Base Directory Specification: state lives apart from configuration and cache.
    state_dir = Field(functools.partial(user_state_path, "geodes-tasks"), Path)
    """Folder in which one-machine mode keeps its ledger, and a worker the id of the ledger that it
    used last.
    """
    account = Field("default", matching(ACCOUNT_NAME, "1 to 64 letters, digits, `_`, `.` or `-`"))
    """Name of the account, the unit of limits."""
    # GEODES counts 50 downloads in an hour for each account (GEODES section 3.3).
    quota = Field("50/hour", Quota.parse)
    """Downloads that the account may start: 50/hour, or off."""
    max_concurrent = Field(4, number(int, least=1))
    """Concurrency limit: parallel transfers per account, over all workers."""
    rate = Field(None, parse_rate)
    """Bytes a second of one worker with all its processes, HTTP and S3 together: 20MB, 500kB, off.
    """
    lease_seconds = Field(60.0, number(float, least=1))
    """If a worker does not renew its lease for this long, its downloads are given to other workers.
    """
    connect_seconds = Field(15.0, positive)
    """Timeout of a connection attempt; 2 for S3 if unchanged."""
    first_byte_seconds = Field(120.0, positive)
    """Timeout of the first byte of an answer."""
    stall_seconds = Field(60.0, positive)
    """Timeout between two chunks of a body; a slow transfer is not cut."""
    offline_poll_seconds = Field(600.0, positive)
    """Seconds between two polls for files on tape; one is for all."""
    keep_days = Field(None, optional(positive))
    """Days for which finished batches are kept; one-machine mode: 30."""
    probe_seconds = Field(60.0, positive)
    """Seconds between two tests whether a used-up quota is back."""
    max_attempts = Field(8, number(int, least=1))
    """Counted attempts before FAILURE."""
    backoff_seconds = Field(2.0, positive)
    """Seconds to the first retry; doubled each time, up to 300."""
    grace_seconds = Field(10.0, number(float, least=0))
    """Seconds that a stopping worker leaves to running downloads."""
    on_file = Field("", text)
    """Command or webhook for each finished file."""
    on_batch = Field("", text)
    """Command or webhook for each finished batch."""
    hook_seconds = Field(60.0, positive)
    """Timeout of such a command or webhook."""
    log_format = Field("text", one_of("text", "json"))
    """Form of a worker's log: `text`, or `json`, an object a line."""
    allowed_hosts = Field((), hosts)
    """Other hosts whose hrefs are opened (comma-separated), with all their ports or, as
    ``host:port``, with one; no key is sent to them."""
    key_prefix = Field(
        "geodes:", matching(r"[\w.:-]{1,64}", "1 to 64 letters, digits, `_`, `.`, `:` or `-`")
    )
    """Prefix of every key in Redis."""

    nb_max_items = Field(800_000_000, number(int, least=1))
    """Items that a search with `get_all` may find."""
    logging_level = Field("INFO", text)
    """Of pygeodes; nothing depends on it."""
    checksum_error = Field(True, boolean)
    """Of pygeodes; checksums are always verified."""
    use_async_requests = Field(True, boolean)
    """Of pygeodes; nothing depends on it."""

    _key_variable = "GEODES_API_KEY"

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
    return Config(**(read_file(config, Config.fields) if config else {}) | given)


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
    return Config.fields[field].variables[0]


def text_of(name: str, value: object) -> str:
    """Return the value of a field as its environment variable has it; empty for none."""
    if name == "quota" and value is None:
        return "off"
    if isinstance(value, tuple):
        return (os.pathsep if name == "download_roots" else ",").join(map(str, value))
    return "" if value is None else str(value)


def environment(settings: Config) -> dict[str, str]:
    """Return the variables from which a child process reads the same settings, secrets included."""
    found = {}
    for name in Config.fields:
        value = getattr(settings, name)
        if isinstance(value, Path):
            value = value.expanduser().absolute()
        if written := text_of(name, value):
            found[environment_name(name)] = written
    return found
