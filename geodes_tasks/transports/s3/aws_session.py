"""The AWS tools' own settings by botocore: profiles, files, roles; and boto3's client for users.

Loading boto3 takes half a second, so no download imports this module where the settings, a
command or a function give the credentials.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session, get_session

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import Config

if TYPE_CHECKING:
    # The stubs are installed with the tests only.
    from mypy_boto3_s3 import S3Client

# These loggers write whole requests at DEBUG, with the session token and the signature.
_TALKATIVE = ("auth", "endpoint", "hooks", "httpsession", "credentials", "client", "regions")


def aws_session() -> Session:
    """Return a new session of botocore, which reads the files and the environment again."""
    for name in _TALKATIVE:
        logging.getLogger(f"botocore.{name}").setLevel(logging.INFO)
    session = get_session()
    # On EC2 the role of the machine is not an account of the datalake; elsewhere to request it
    # costs seconds.
    session.get_component("credential_provider").remove("iam-role")
    return session


def s3_client(settings: Config, supply: Callable[[], Any] | None) -> S3Client:
    """Return boto3's client of the datalake, for users.

    Args:
        settings: Endpoint, region and certificates.
        supply: Returns fresh ``Credentials``; None for those of the AWS tools.

    Raises:
        BotoCoreError, ConfigError: the AWS settings or credentials cannot be used.
    """
    core: Any = aws_session()
    if supply is not None:
        # Sessions have no public way to take credentials that renew themselves.
        core._credentials = RefreshableCredentials.create_from_metadata(
            supply().of_botocore(),
            refresh_using=lambda: supply().of_botocore(),
            method="geodes-tasks",
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


def chain_credentials() -> tuple[str, str, str | None, datetime | None] | None:
    """Return key, secret, token and expiry as the AWS tools find them; None without any.

    Raises:
        ConfigError: their files or programs cannot be used.
    """
    try:
        found = aws_session().get_credentials()
        if found is None:
            return None
        frozen = found.get_frozen_credentials()
    except (BotoCoreError, ValueError, OSError) as error:
        # Not chained: the text may quote the output of a credential_process.
        problem = f"they cannot be used ({type(error).__name__})"
        raise ConfigError("the AWS settings", problem) from None
    # Only a private attribute has the expiry (botocore.credentials.RefreshableCredentials).
    expires = getattr(found, "_expiry_time", None)
    return str(frozen.access_key), str(frozen.secret_key), frozen.token, expires
