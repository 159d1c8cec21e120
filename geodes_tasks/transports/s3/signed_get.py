"""A GET of an object: signed by botocore, sent over connections that can be broken off.

A call of boto3's client goes through rules for endpoints, hooks and parsers: measured for objects
of 1 MiB, two thirds of a millisecond of the processor each, a quarter of all that a file costs.
Its sockets are out of reach, so each call needed a thread to wait in, another eighth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.parsers import create_parser
from urllib3.exceptions import HTTPError, ProtocolError

from geodes_tasks.model.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.credentials import Credentials
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

MESSAGE_BYTES = 64 * 1024
"""Read of an answer that is no object, at most."""
_OBJECT = {200, 206}
_AGENT = {"User-Agent": f"geodes-tasks/{__version__}"}


class Getter:
    """GETs from one endpoint with one set of credentials. Safe to use from many threads."""

    def __init__(
        self,
        endpoint: str,
        region: str,
        credentials: Credentials | None,
        pool: HTTPConnectionPool,
    ) -> None:
        """Prepare; opens no connection.

        Args:
            endpoint: Scheme and host.
            region: That the signature names.
            credentials: Asked at each request: some renew themselves.
            pool: Connections to the endpoint.
        """
        self._endpoint, self._region = endpoint.rstrip("/"), region
        self._credentials, self._pool = credentials, pool
        # What a proxy forwards it has to be told whole; through TLS it sees nothing of it.
        forwarded = pool.proxy is not None and pool.scheme == "http"
        self._target = self._endpoint if forwarded else ""

    def is_ready(self) -> bool:
        """Return whether a request can be signed at once: credentials that end are still fresh."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return refresh_needed is None or not refresh_needed()

    def prepare(self) -> None:
        """Have credentials that renew themselves do it now, which may take a while.

        Raises:
            BotoCoreError: they cannot be had.
        """
        if self._credentials is not None:
            self._credentials.get_frozen_credentials()

    def get(self, bucket: str, key: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """Ask for an object, path style; once more where a connection that was kept is gone.

        Args:
            bucket: Its bucket.
            key: Its key, as S3 knows it.
            headers: Which choose a part or a version.

        Returns:
            The answer that has the object or the part, its body still to be read.

        Raises:
            ClientError: what else the server says, as boto3 puts it.
            NoCredentialsError: there are none.
            HTTPError: of urllib3; there was no answer.
        """
        path = f"/{quote(bucket)}/{quote(key, safe='/~')}"
        try:
            response = self._send(path, headers)
        except ProtocolError:
            response = self._send(path, headers)
        if response.status not in _OBJECT:
            raise ClientError(_said(response), "GetObject")
        return response

    def _send(self, path: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        return self._pool.urlopen(
            "GET",
            self._target + path,
            headers=self._signed(path, headers),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            enforce_content_length=False,  # who reads the body counts
        )

    def _signed(self, path: str, headers: Mapping[str, str]) -> dict[str, str]:
        if self._credentials is None:
            raise NoCredentialsError
        request = AWSRequest(method="GET", url=self._endpoint + path, headers=dict(headers))
        frozen = self._credentials.get_frozen_credentials()
        S3SigV4Auth(frozen, "s3", self._region).add_auth(request)
        return dict(request.headers.items()) | _AGENT


def _said(response: BaseHTTPResponse) -> Any:
    """Read what the server says in place of an object; a broken message says less."""
    try:
        body = response.read(MESSAGE_BYTES, decode_content=False)
    except HTTPError:
        body = b""
    finally:
        response.close()
    answer = {"status_code": response.status, "headers": response.headers, "body": body}
    no_shape: Any = None  # which only an answer that went well has
    return create_parser("rest-xml").parse(answer, no_shape)
