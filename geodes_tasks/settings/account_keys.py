"""API keys of accounts: the variable that holds each, and the settings with that key."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import ACCOUNT_NAME, Config
from geodes_tasks.settings.secret import secret_word


def account_form(name: str) -> str:
    """Return the one form of all names that share the variable of a key: `Team-A` is `team_a`."""
    return re.sub(r"\W", "_", name.upper().lower())


def spellings(account: str, known: Iterable[str]) -> list[str]:
    """Return those of some accounts that share the key of this one."""
    form = account_form(account)
    return [one for one in known if account_form(one) == form]


def named_key(account: str) -> str:
    """Return the name of the variable that holds the key of an account.

    Raises:
        ConfigError: not a name for an account, or its variable would be that of a key file.
    """
    if not re.fullmatch(ACCOUNT_NAME, account):
        raise ConfigError("GEODES_TASKS_ACCOUNT", f"{account!r} is no name for an account")
    word = account_form(account).upper()
    if word.endswith("FILE"):
        problem = f"account {account!r}: a name that ends in `file` cannot have a key of its own"
        raise ConfigError("GEODES_TASKS_ACCOUNT", problem, "Choose another name.")
    return f"GEODES_API_KEY_{word}"


def of_account(settings: Config, account: str) -> Config:
    """Return the settings with the key of one account; all other settings are the same.

    ``GEODES_API_KEY`` is the key of the account that the settings name. Every account may have
    one in ``GEODES_API_KEY_<NAME>`` or a file named by ``GEODES_API_KEY_<NAME>_FILE``.

    Raises:
        ConfigError: the key or the name cannot be used.
    """
    variable = named_key(account)
    text, file = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    # A ledger may have the account in another spelling.
    if account_form(account) == account_form(settings.account) and not (text or file):
        return settings
    try:
        key = secret_word(text)
    except ValueError as error:
        raise ConfigError(variable, str(error)) from None
    found = settings.replace(account=account, api_key=key, api_key_file=file or None)
    found._key_variable = variable
    return found


def named_accounts(settings: Config) -> list[str]:
    """Return the account of the settings and all others with a key here, in lower case."""
    found = dict[str, str]()
    for name, value in os.environ.items():
        word = name.removeprefix("GEODES_API_KEY_").removesuffix("_FILE")
        if value and name.startswith("GEODES_API_KEY_") and name != "GEODES_API_KEY_FILE":
            found[account_form(word)] = account_form(word)
    return sorted((found | {account_form(settings.account): settings.account}).values())


def loose_key_files(settings: Config) -> list[Path]:
    """Return the key files that users other than their owner can read, and that are not empty.

    A group that can read the file of another owner is that owner's choice: Kubernetes mounts
    secrets with mode 0440, of root and the group of the pod.

    Raises:
        ConfigError: the key of an account cannot be used.
    """
    loose = []
    for account in named_accounts(settings):
        file = of_account(settings, account).api_key_file
        with contextlib.suppress(OSError):
            facts = file.expanduser().stat() if file is not None else None
            # The bits of group and others: chmod(1) 600 clears them all, but only for the owner.
            bits = 0o077 if facts and facts.st_uid == os.geteuid() else 0o007
            if file and facts and facts.st_size and facts.st_mode & bits:
                loose.append(file)
    return loose
