"""A GET of an object, signed by botocore and sent over its connections, and nothing beside.

A call of boto3's client goes through rules for endpoints, hooks and parsers: measured for objects
of 1 MiB, two thirds of a millisecond of the processor each, a quarter of all that a file costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, ConnectionClosedError, NoCredentialsError
from botocore.parsers import create_parser
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.credentials import Credentials
    from botocore.httpsession import URLLib3Session
    from urllib3 import HTTPResponse

MESSAGE_BYTES = 64 * 1024
"""Read of an answer that is no object, at most."""
_OBJECT = {200, 206}


class Getter:
    """GETs from one endpoint with one set of credentials. Safe to use from many threads."""

    def __init__(
        self, endpoint: str, region: str, credentials: Credentials | None, over: URLLib3Session
    ) -> None:
        """Prepare; opens no connection.

        Args:
            endpoint: Scheme and host.
            region: That the signature names.
            credentials: Asked at each request: some renew themselves.
            over: The connections.
        """
        self._endpoint, self._region = endpoint.rstrip("/"), region
        self._credentials, self._over = credentials, over

    def get(self, bucket: str, key: str, headers: Mapping[str, str]) -> HTTPResponse:
        """Ask for an object, path style; once more where a connection that was kept is gone.

        Args:
            bucket: Its bucket.
            key: Its key, as S3 knows it.
            headers: Which choose a part or a version.

        Returns:
            The answer that has the object or the part, its body still to be read.

        Raises:
            ClientError: what else the server says, as boto3 puts it.
            BotoCoreError: there are no credentials, or there was no answer.
        """
        try:
            response = self._send(bucket, key, headers)
        except ConnectionClosedError:
            response = self._send(bucket, key, headers)
        if response.status not in _OBJECT:
            raise ClientError(_said(response), "GetObject")
        return response

    def _send(self, bucket: str, key: str, headers: Mapping[str, str]) -> HTTPResponse:
        if self._credentials is None:
            raise NoCredentialsError
        request = AWSRequest(
            method="GET",
            url=f"{self._endpoint}/{quote(bucket)}/{quote(key, safe='/~')}",
            headers=dict(headers),
            stream_output=True,
        )
        frozen = self._credentials.get_frozen_credentials()
        S3SigV4Auth(frozen, "s3", self._region).add_auth(request)
        response: HTTPResponse = self._over.send(request.prepare()).raw
        return response


def _said(response: HTTPResponse) -> Any:
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
