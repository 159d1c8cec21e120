"""``geodes.s3_client``: boto3's client and resource of the datalake.

Loading boto3 takes half a second, so this module is imported where it is used.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig
from botocore.credentials import RefreshableCredentials

from geodes_tasks.settings.config import Config
from geodes_tasks.settings.s3_credentials import LIFE_SECONDS, supplier
from geodes_tasks.transports.s3.aws_session import aws_session

if TYPE_CHECKING:
    # The stubs are installed with the tests only.
    from mypy_boto3_s3 import S3Client


class Explorer:
    """A boto3 S3 resource (``buckets``, ``Bucket``) that has the client's methods too.

    pygeodes makes a client and its documentation uses a resource; both spellings work.
    """

    def __init__(self, settings: Config) -> None:
        """Make client and resource; opens no connection."""
        self._client = s3_client(settings)
        # boto3 wants credentials to make a resource; these serve nothing, for the class is made
        # again over the client above, which signs with those of the settings and renews them.
        session = boto3.Session("-", "-", region_name=settings.region_name)
        made = session.resource("s3", endpoint_url=settings.s3_endpoint_url)
        self._resource: Any = type(made)(client=self._client)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the resource, else of the client."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._resource if hasattr(self._resource, name) else self._client, name)

    def __repr__(self) -> str:
        """Name the endpoint; no credentials."""
        return f"Explorer({self._client.meta.endpoint_url!r})"


def s3_client(settings: Config) -> S3Client:
    """Return boto3's client of the datalake, with credentials that renew themselves.

    Raises:
        BotoCoreError, ConfigError: the AWS settings or credentials cannot be used.
    """
    core: Any = aws_session()
    supply = supplier(settings)
    if supply is not None:

        def fields() -> dict[str, str | None]:
            found = supply()
            end = found.expires or datetime.now(UTC) + timedelta(seconds=LIFE_SECONDS)
            keys = {"access_key": found.access, "secret_key": found.secret, "token": found.token}
            return keys | {"expiry_time": end.isoformat()}

        # Sessions have no public way to take credentials that renew themselves.
        core._credentials = RefreshableCredentials.create_from_metadata(
            fields(), refresh_using=fields, method="geodes-tasks"
        )
    return boto3.Session(botocore_session=core, region_name=settings.region_name).client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        verify=str(settings.ca_bundle.expanduser()) if settings.ca_bundle else None,
        config=ClientConfig(
            # The datalake takes buckets in the path only.
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            # Checksums other than AWS's own are unknown to many S3 servers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
