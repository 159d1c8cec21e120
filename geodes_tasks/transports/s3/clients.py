"""Make boto3's clients of S3 endpoints, with credentials that are renewed."""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies
from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.util.ssl_ import create_urllib3_context

from geodes_tasks.errors import ConfigError
from geodes_tasks.transports.http.connections import Watch, watched
from geodes_tasks.transports.s3 import credentials
from geodes_tasks.transports.s3.error_codes import hide_secrets
from geodes_tasks.transports.s3.signed_get import Getter

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from geodes_tasks.settings.config import Settings
    from geodes_tasks.transports.abort import Calls
    from geodes_tasks.transports.s3.credentials import Fresh

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
"""Short, because outside the CNES network the datalake is out of reach and the portal is not."""
ATTEMPTS = 2
"""Within boto3, for one request; the retry rules of the program do the rest."""
CONNECTIONS = 64
"""Number of connections that one client keeps open."""
AGAIN_SECONDS = 15.0
"""Seconds before credentials are requested again after a request that brought no new ones."""


class Lease(NamedTuple):
    """The client and credentials of this process for one endpoint."""

    client: S3Client
    getter: Getter
    generation: int
    """Of the credentials."""


class Clients:
    """Makes clients and renews their credentials, once a process however many threads ask."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        """Prepare; opens no connection and asks for nothing.

        Args:
            settings: Credentials, endpoint, waits.
            calls: Learns which socket a thread waits on.
        """
        self._settings, self._calls = settings, calls
        self._lock = threading.Lock()
        self._forget()
        self.generation = 0
        """Rises with the credentials."""

    def _forget(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._session: boto3.Session | None = None
        self._identity: tuple[object, ...] | None = None
        self._due = float("inf")
        self._in_vain = 0.0
        self._pid = os.getpid()

    def ready(self, endpoint: str) -> Lease | None:
        """Return the lease of an endpoint; None where getting one has to wait."""
        if self._pid != os.getpid() or time.monotonic() >= self._due:
            return None
        lease = self._leases.get(endpoint)
        return lease if lease and lease.getter.is_ready() else None

    def lease(self, endpoint: str) -> Lease:
        """Return the lease of an endpoint, making it where there is none.

        Raises:
            BotoCoreError, ConfigError: the credentials or AWS settings cannot be had.
        """
        with self._lock:
            if self._pid != os.getpid():
                # A forked child must not write to its parent's connections.
                self._forget()
            if self._session is None:
                self._renew()
            elif time.monotonic() >= self._due:
                self._renew_in_time()
            if endpoint not in self._leases:
                assert self._session is not None  # noqa: S101 - made above, or it was raised
                client = _client(self._session, endpoint, self._settings)
                getter = _getter(self._session, client, self._settings, self._calls)
                self._leases[endpoint] = Lease(client, getter, self.generation)
            return self._leases[endpoint]

    def renewed(self, generation: int) -> bool:
        """Return whether there are credentials other than those that the server refused."""
        with self._lock:
            now = time.monotonic()
            if generation == self.generation and now >= self._in_vain:
                try:
                    self._renew()
                except (BotoCoreError, ConfigError, ValueError, OSError) as error:
                    logger.warning("no fresh S3 credentials: %s", _said(error))
                if generation == self.generation:
                    self._in_vain = now + AGAIN_SECONDS
            return generation != self.generation

    def _renew_in_time(self) -> None:
        """Replace credentials before they end; while that fails, the old ones serve."""
        try:
            self._renew()
        except (BotoCoreError, ConfigError, ValueError, OSError) as error:
            logger.warning("no fresh S3 credentials yet: %s", _said(error))
            self._due = time.monotonic() + AGAIN_SECONDS

    def _renew(self) -> None:
        """Ask for credentials anew: the command, the function, or the whole AWS chain."""
        session, self._due = session_of(self._settings)
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else None
        identity = tuple(frozen[:3]) if frozen else ()
        if identity != self._identity or self._session is None:
            self._session, self._identity, self._leases = session, identity, {}
            self.generation += 1
            logger.info("S3 credentials read", extra={"action": "s3_credentials"})


def _said(error: Exception) -> str:
    # What botocore says of a credential process may quote its output.
    return str(error) if isinstance(error, ConfigError) else type(error).__name__


def has_credentials(settings: Settings) -> bool:
    """Return whether settings, environment or files give credentials for S3.

    The EC2 metadata service is never asked: elsewhere it costs seconds and finds nothing. A
    command or function for credentials is not asked here either.
    """
    if settings.s3_credentials_command:
        return True
    if settings.aws_access_key_id and settings.aws_secret_access_key:
        return True
    try:
        return session_of(settings)[0].get_credentials() is not None
    except (BotoCoreError, ValueError, OSError) as error:
        logger.warning("the AWS settings cannot be used: %s", type(error).__name__)
        return False


def session_of(settings: Settings) -> tuple[boto3.Session, float]:
    """Make a session: credentials of the command or function, else the settings', else AWS's.

    Returns:
        The session, and when its credentials should be replaced (of ``time.monotonic``).

    Raises:
        BotoCoreError, ConfigError: they cannot be had.
    """
    hide_secrets()
    core = botocore.session.get_session()
    # Credentials of the datalake never come from the machine that EC2 says this is.
    core.get_component("credential_provider").remove("iam-role")
    due = float("inf")
    access, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    token = settings.aws_session_token
    if ask := credentials.provider(settings):
        fresh = _asked(ask)
        due = time.monotonic() + fresh.due_in_s(datetime.now(UTC))
        core.set_credentials(fresh.access, fresh.secret, fresh.token)
    elif access and secret:
        core.set_credentials(
            str(access),
            str(secret),
            str(token) if token else None,
        )
    return boto3.Session(botocore_session=core, region_name=settings.region_name), due


def _asked(ask: Callable[[], Fresh]) -> Fresh:
    try:
        return ask()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001
        # A function of the user's: whatever it raises, S3 is not to be had, and is told by name
        # only, for the text might hold what it was given.
        problem = f"the function failed ({type(error).__name__})"
        raise ConfigError(credentials.SETTING, problem) from None


def _client(session: boto3.Session, endpoint: str, settings: Settings) -> S3Client:
    """Make a client; path style and SigV4 are what the datalake takes."""
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=settings.stall_seconds,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        # Other checksums than AWS's own are unknown to many S3 servers; MD5 proves the file.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.client("s3", endpoint_url=endpoint, config=config, verify=_bundle(settings))


def _bundle(settings: Settings) -> str | None:
    return str(settings.ca_bundle.expanduser()) if settings.ca_bundle else None


def _getter(session: boto3.Session, client: S3Client, settings: Settings, calls: Calls) -> Getter:
    """Make what gets objects, over connections that botocore would make too."""
    endpoint, region = client.meta.endpoint_url, client.meta.region_name
    configured = session._session.get_config_variable("ca_bundle")
    bundle = _bundle(settings) or configured or get_cert_path(True)
    manager = _manager(endpoint, settings.stall_seconds, str(bundle))
    pool = manager.connection_from_url(endpoint)
    made: Any = watched(pool.ConnectionCls, Watch(None, settings.stall_seconds, calls))
    pool.ConnectionCls = made
    return Getter(endpoint, region, session.get_credentials(), pool)


def _manager(endpoint: str, read_s: float, bundle: str) -> PoolManager:
    """Make what makes connections, direct ones or those of the environment's proxy.

    Raises:
        ConfigError: the certificates cannot be read.
    """
    common: dict[str, Any] = {
        "maxsize": CONNECTIONS,
        "timeout": Timeout(connect=CONNECT_SECONDS, read=read_s),
    }
    if endpoint.startswith("https:"):
        common["ssl_context"] = _trusting(bundle)
    proxies = ProxyConfiguration(get_environ_proxies(endpoint))
    proxy: Any = proxies.proxy_url_for(endpoint)
    if not proxy:
        return PoolManager(**common)
    return ProxyManager(proxy, proxy_headers=proxies.proxy_headers_for(proxy), **common)


def _trusting(bundle: str) -> ssl.SSLContext:
    context = create_urllib3_context()
    try:
        context.load_verify_locations(cafile=bundle)
    except OSError as error:
        problem = f"{bundle}: {error.strerror or type(error).__name__}"
        raise ConfigError("GEODES_TASKS_CA_BUNDLE", problem) from error
    return context
