"""Check of the S3 access: one signed request with the credentials that downloads use."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError

from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.s3.clients import Clients
from geodes_tasks.transports.s3.error_codes import boto_failure, client_failure


def check_access(settings: Settings) -> None:
    """Check that the endpoint answers and accepts the credentials.

    Raises:
        GeodesTasksError: it does not; each reason in its own words.
    """
    endpoint = settings.s3_endpoint_url
    try:
        Clients(settings, Calls()).lease(endpoint).client.list_buckets()
    except ClientError as error:
        # A server checks the signature first, so this answer proves the credentials. Most users
        # may read objects of given buckets and not list all buckets.
        if error.response.get("Error", {}).get("Code") not in {"AccessDenied", "403"}:
            raise client_failure(error, endpoint) from error
    except (BotoCoreError, ValueError) as error:
        raise boto_failure(error, endpoint) from error
