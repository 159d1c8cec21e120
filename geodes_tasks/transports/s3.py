"""Opens objects of the S3 datalake, or of another S3 endpoint; the only place that calls boto3.

Every way in which the datalake cannot give a file while the portal may (no credentials, expired
ones, denied, no such key, out of reach) is SourceUnavailableError, so that the caller goes on
with the next source.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from geodes_tasks.config import is_loopback
from geodes_tasks.errors import SourceUnavailableError
from geodes_tasks.transports.addresses import AddressPolicy, origin, redact
from geodes_tasks.transports.answers import resumed_total, strong_etag
from geodes_tasks.transports.base import Body
from geodes_tasks.transports.calls import Calls
from geodes_tasks.transports.s3_errors import boto_failure, client_failure, hide_secrets
from geodes_tasks.transports.stream import BodyReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef
    from urllib3 import HTTPResponse

    from geodes_tasks.config import Settings

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
"""Short, because outside the CNES network the datalake is out of reach and the portal is not."""
ATTEMPTS = 2
"""Within boto3, for one request; the retry rules of the program do the rest."""
CONNECTIONS = 64

_SCHEMES = {"http", "https"}
# 412: another version (If-Match). 416: fewer bytes than the caller has.
_NOT_THE_REST = {412, 416}


@dataclass(frozen=True, slots=True)
class Address:
    """Where an object is."""

    endpoint: str | None
    """Scheme and host; None when the href names a bucket only (``s3://``)."""
    bucket: str
    """Name of the bucket."""
    key: str
    """Key within it, as S3 knows it."""

    @classmethod
    def parse(cls, href: str) -> Address:
        """Read ``https://host/bucket/key`` (percent-encoded) or ``s3://bucket/key`` (not).

        Raises:
            SourceUnavailableError: neither, or no single object.
        """
        try:
            parts = urlsplit(href)
            if parts.scheme in _SCHEMES:
                origin(href)
        except ValueError as error:
            raise SourceUnavailableError("s3", redact(href), "no S3 address") from error
        if parts.scheme == "s3":
            endpoint, bucket, key = None, parts.netloc, href.partition("://")[2].partition("/")[2]
        else:
            endpoint = f"{parts.scheme}://{parts.netloc}"
            bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if parts.scheme not in _SCHEMES | {"s3"} or not bucket or not key or key.endswith("/"):
            raise SourceUnavailableError("s3", redact(href), "no address of a single S3 object")
        return cls(endpoint, bucket, key)


class S3Transport:
    """Opens S3 hrefs with one client per process and endpoint."""

    source = "s3"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = AddressPolicy(settings)
        self._calls = Calls()
        self._lock = threading.Lock()
        self._clients: dict[str, S3Client] = {}
        self._session: boto3.Session | None = None
        self._pid = os.getpid()

    def client(self, endpoint: str | None = None) -> S3Client:
        """Give this process's client of an endpoint; without one, of the datalake.

        Raises:
            BotoCoreError: the AWS settings cannot be read.
        """
        url = endpoint or self._settings.s3_endpoint_url
        with self._lock:
            if self._pid != os.getpid():
                # A forked child must not write to its parent's connections.
                self._clients, self._session, self._pid = {}, None, os.getpid()
            if url not in self._clients:
                self._session = self._session or _session(self._settings)
                self._clients[url] = _client(self._session, url, self._settings)
            return self._clients[url]

    @contextmanager
    def open(self, href: str, *, offset: int = 0, etag: str | None = None) -> Iterator[Body]:
        """Open an object, from ``offset`` on when it is still the one that ``etag`` names.

        Raises:
            GeodesTasksError: as the contract says; the class names the reaction.
        """
        address = Address.parse(href)
        self._check(address, href)
        etag = strong_etag(etag)
        with self._calls.begin() as call:
            answer = self._get(address, href, offset, etag)
            with closing(answer["Body"]) as stream, stream as inner:
                # Entered, it gives urllib3's response, which is read as the bytes come; the
                # stream's own read waits until a piece is full. The stubs do not know.
                raw = cast("HTTPResponse", inner)
                call.waits_on(raw.shutdown)
                start = offset if _is_partial(answer) else 0
                reader = BodyReader(raw, redact(href), call, offset=start)
                total = None if reader.length is None else start + reader.length
                yield Body(start, total, strong_etag(answer.get("ETag")), reader.pieces())

    def abort(self, thread: int) -> None:
        """Break off the body that a thread waits for; an answer not begun ends when it begins."""
        self._calls.abort(thread)

    def _check(self, address: Address, href: str) -> None:
        """Let pass the configured endpoint and hosts that the settings allow."""
        own = urlsplit(self._settings.s3_endpoint_url).netloc
        if address.endpoint is None or urlsplit(address.endpoint).netloc == own:
            return
        scheme, host, _ = origin(address.endpoint)
        if not self._policy.is_allowed(address.endpoint) or (
            scheme == "http" and not is_loopback(host)
        ):
            problem = f"{host} is not the S3 endpoint; allow it with GEODES_TASKS_ALLOWED_HOSTS"
            raise SourceUnavailableError("s3", redact(href), problem)

    def _get(
        self, address: Address, href: str, offset: int, etag: str | None
    ) -> GetObjectOutputTypeDef:
        """Ask for the rest, and for the whole where the rest cannot be had."""
        if offset:
            answer = self._rest(address, href, offset, etag)
            if answer is not None:
                return answer
            logger.info(
                "%s: does not resume, starting from byte 0",
                redact(href),
                extra={"action": "download_restarted"},
            )
        return self._ask(address, href, {})

    def _rest(
        self, address: Address, href: str, offset: int, etag: str | None
    ) -> GetObjectOutputTypeDef | None:
        """Ask for the bytes from ``offset`` on; None when they are not to be had or not proven."""
        condition = {"IfMatch": etag} if etag else {}
        try:
            answer = self._ask(address, href, {"Range": f"bytes={offset}-", **condition})
        except _NotTheRestError:
            return None
        if not _is_partial(answer):
            return answer  # the whole object, from byte 0
        headers = {"Content-Range": answer.get("ContentRange", ""), "ETag": answer.get("ETag", "")}
        if resumed_total(headers, answer.get("ContentLength"), offset, etag) is not None:
            return answer
        answer["Body"].close()
        return None

    def _ask(
        self, address: Address, href: str, condition: dict[str, Any]
    ) -> GetObjectOutputTypeDef:
        try:
            client = self.client(self._endpoint(address))
            return client.get_object(Bucket=address.bucket, Key=address.key, **condition)
        except ClientError as error:
            if condition and _status(error) in _NOT_THE_REST:
                raise _NotTheRestError from error
            raise client_failure(error, redact(href)) from error
        except (BotoCoreError, ValueError) as error:
            raise boto_failure(error, redact(href)) from error

    def _endpoint(self, address: Address) -> str | None:
        own = self._settings.s3_endpoint_url
        same = address.endpoint and urlsplit(address.endpoint).netloc == urlsplit(own).netloc
        return None if same else address.endpoint


class _NotTheRestError(Exception):
    """The object is not the one of which the caller has the beginning."""


def has_credentials(settings: Settings) -> bool:
    """Tell whether S3 is worth trying: settings, environment or files give credentials.

    The EC2 metadata service is never asked: elsewhere it costs seconds and finds nothing.
    """
    if settings.aws_access_key_id and settings.aws_secret_access_key:
        return True
    try:
        return _session(settings).get_credentials() is not None
    except (BotoCoreError, ValueError, OSError) as error:
        logger.warning("the AWS settings cannot be used: %s", type(error).__name__)
        return False


def _session(settings: Settings) -> boto3.Session:
    """Make a session; its credentials are the settings' own, else those of the AWS chain."""
    hide_secrets()
    core = botocore.session.get_session()
    # Credentials of the datalake never come from the machine that EC2 says this is.
    core.get_component("credential_provider").remove("iam-role")
    access, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    token = settings.aws_session_token
    if access and secret:
        core.set_credentials(
            access.get_secret_value(),
            secret.get_secret_value(),
            token.get_secret_value() if token else None,
        )
    return boto3.Session(botocore_session=core, region_name=settings.region_name)


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
    bundle = str(settings.ca_bundle.expanduser()) if settings.ca_bundle else None
    return session.client("s3", endpoint_url=endpoint, config=config, verify=bundle)


def _is_partial(answer: GetObjectOutputTypeDef) -> bool:
    return answer["ResponseMetadata"]["HTTPStatusCode"] == 206


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
