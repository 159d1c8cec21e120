"""The S3 datalake for whoever wants to look around: boto3 with the credentials of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3

from geodes_tasks.transports.s3.transport import S3Transport, has_credentials

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Settings


class Explorer:
    """A boto3 S3 resource (``buckets``, ``Bucket``) that has the client's methods too.

    pygeodes gives a client and its documentation uses a resource; both spellings work.
    """

    def __init__(self, settings: Settings) -> None:
        """Make client and resource; opens no connection."""
        self._client = S3Transport(settings).client()
        session = boto3.Session(
            # Never used: the resource works through the client above.
            aws_access_key_id="-",
            aws_secret_access_key="-",  # noqa: S106
            region_name=settings.region_name,
        )
        made = session.resource("s3", endpoint_url=settings.s3_endpoint_url)
        self._resource: Any = type(made)(client=self._client)

    def __getattr__(self, name: str) -> Any:
        """Take the resource's attribute, else the client's."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._resource if hasattr(self._resource, name) else self._client, name)

    def __repr__(self) -> str:
        """Name the endpoint; no credentials."""
        return f"Explorer({self._client.meta.endpoint_url!r})"


def explorer(settings: Settings) -> Explorer | None:
    """Give what explores the datalake; None where there are no credentials for it."""
    return Explorer(settings) if has_credentials(settings) else None
