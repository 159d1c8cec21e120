"""Credentials of the AWS tools, by botocore: profiles, files, processes, container roles.

Loading botocore takes half a second, so no download imports this module where the settings, a
command or a function give the credentials.
"""

from __future__ import annotations

import logging
from datetime import datetime

from botocore.exceptions import BotoCoreError
from botocore.session import Session, get_session

from geodes_tasks.errors import ConfigError

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
    except (BotoCoreError, RuntimeError, ValueError, OSError) as error:
        # Not chained: the text may quote the output of a credential_process.
        problem = f"they cannot be used ({type(error).__name__})"
        raise ConfigError("the AWS settings", problem) from None
    # Only a private attribute has the expiry (botocore.credentials.RefreshableCredentials).
    expires = getattr(found, "_expiry_time", None)
    return str(frozen.access_key), str(frozen.secret_key), frozen.token, expires
