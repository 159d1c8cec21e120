"""The AWS tools' own settings by botocore: profiles, files, roles; and boto3's client for users.

Loading boto3 takes half a second, so no download imports this module where the settings, a
command or a function give the credentials.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.credentials import CredentialProvider, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session, get_session

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.s3.credentials import Credentials, supplier

if TYPE_CHECKING:
    # The stubs are installed with the tests only.
    from mypy_boto3_s3 import S3Client

# These loggers write whole requests at DEBUG, with the session token and the signature.
_TALKATIVE = ("auth", "endpoint", "hooks", "httpsession", "credentials", "client", "regions")


def _is_no_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def aws_session() -> Session:
    """Return a new session of botocore, which reads the files and the environment again."""
    for name in _TALKATIVE:
        # ``addFilter`` ignores a filter that a logger already has (Lib/logging).
        logging.getLogger(f"botocore.{name}").addFilter(_is_no_debug)
    session = get_session()
    # On EC2 the role of the machine is not an account of the datalake; elsewhere to request it
    # costs seconds.
    session.get_component("credential_provider").remove("iam-role")
    return session


class _SettingsProvider(CredentialProvider):
    """Credentials of our settings, as the first step of botocore's chain."""

    METHOD = CANONICAL_NAME = "geodes-tasks"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._supply = supplier(settings)

    def load(self) -> RefreshableCredentials | None:
        if self._supply is None:
            return None
        return RefreshableCredentials.create_from_metadata(
            self._metadata(), refresh_using=self._metadata, method=self.METHOD
        )

    def _metadata(self) -> dict[str, str | None]:
        assert self._supply is not None  # noqa: S101 - checked by load
        found = self._supply()
        end = found.end(datetime.now(UTC))
        return {
            "access_key": found.access,
            "secret_key": found.secret,
            "token": found.token,
            "expiry_time": end.isoformat(),
        }


def s3_client(settings: Settings, endpoint: str) -> S3Client:
    """Return boto3's client of an endpoint, with credentials that renew themselves.

    Raises:
        BotoCoreError, ConfigError: the AWS settings or credentials cannot be used.
    """
    core = aws_session()
    chain = core.get_component("credential_provider")
    chain.providers.insert(0, _SettingsProvider(settings))
    session = boto3.Session(botocore_session=core, region_name=settings.region_name)
    config = Config(
        # The datalake takes buckets in the path only.
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        # Checksums other than AWS's own are unknown to many S3 servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    bundle = str(settings.ca_bundle.expanduser()) if settings.ca_bundle else None
    return session.client("s3", endpoint_url=endpoint, config=config, verify=bundle)


def chain_credentials() -> Credentials | None:
    """Return the credentials of the AWS tools; None where they have none.

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
    return Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token, expires)
