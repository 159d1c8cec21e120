"""The schema of version 0.1.0: a ledger without unfinished downloads is taken over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from geodes_tasks.model import json as jsontext
from geodes_tasks.model.states import ACTIVE, State

Key = Callable[..., str]
"""Returns the name of a key."""
BLOCK = 500
"""Entries that are read in one round trip."""


def take_over(client: Any, key: Key, schema: str) -> bool:
    """Take over a ledger in which nothing is unfinished. Return whether that was possible."""
    unfinished = (f"state:{state}" for state in ACTIVE)
    if any(int(count or 0) for count in client.hmget(key("totals"), *unfinished)):
        return False
    for batch in client.zrange(key("batches"), 0, -1):
        _list_errors(client, key, batch)
    _turn_litter(client, key("litter"), key("litter:old"))
    client.unlink(key("hooks"))  # it would stay for ever, where no worker has hooks any more
    client.set(key("schema"), schema)
    return True


def _turn_litter(client: Any, new: str, old: str) -> None:
    """Turn the older list of litter, ``<id> <token>`` each, into a sorted set."""
    if client.type(new) == "list":
        client.rename(new, old)
    while entries := client.lpop(old, BLOCK):
        pairs = (entry.split() for entry in entries)
        client.zadd(new, {identifier: int(token) for identifier, token in pairs})


def _list_errors(client: Any, key: Key, batch: str) -> None:
    """List the errors of a batch: the older version kept no such list."""
    first = 0
    while ids := client.zrange(key("batch", batch, "downloads"), first, first + BLOCK - 1):
        pipeline = client.pipeline(transaction=False)
        for identifier in ids:
            pipeline.hmget(key("download", identifier), "state", "error")
        rows = zip(ids, pipeline.execute(), strict=True)
        failed = ((one, error) for one, (state, error) in rows if state == State.FAILURE)
        if listed := {f"{State.FAILURE}:{_class(error)}:{one}": 0 for one, error in failed}:
            client.zadd(key("errors", batch), listed)
        first += BLOCK


def _class(error: str | None) -> str:
    """Return the class that an error names; empty for damaged text."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        return str(jsontext.parsed(error or "")["type"])
    return ""
