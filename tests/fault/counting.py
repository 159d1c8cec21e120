"""Counting a batch twice: as the ledger keeps its counters, and from its records alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

from geodes_tasks.model.states import Outcome, State

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger


def recount(ledger: Ledger, batch: str) -> Counter[str]:
    """Count a batch from its records alone."""
    counted: Counter[str] = Counter()
    for one in ledger.reading.downloads(batch):
        row = ledger.connection.client.hgetall(ledger.connection.key("download", one))
        counted["total"] += 1
        counted["bytes_total"] += int(row.get("size", 0))
        counted["bytes_done"] += int(row.get("done", 0))
        match row["state"]:
            case State.RETRY:
                counted[f"waiting:{row['reason']}"] += 1
            case State.SUCCESS:
                found = f"present:{batch}" in row
                counted[f"outcome:{Outcome.ALREADY_PRESENT if found else row['outcome']}"] += 1
            case State.PENDING:
                pass  # the rest of the total: no counter of its own
            case state:
                counted[f"state:{state}"] += 1
        if row["state"] in {State.FAILURE, State.REVOKED}:
            counted["bytes_ended"] += int(row.get("size", 0)) - int(row.get("done", 0))
        if row["state"] == State.FAILURE:
            counted[f"listed:FAILURE:{json.loads(row['error'])['type']}"] += 1
    return counted


def counters(ledger: Ledger, batch: str) -> Counter[str]:
    """Give the counters that the ledger keeps of a batch, without the zeros."""
    kept = ledger.connection.client.hgetall(ledger.connection.key("batch", batch))
    counts = re.compile("total|bytes|state:|outcome:|waiting:")
    numbers = {n: int(v) for n, v in kept.items() if counts.match(n)}
    for entry in ledger.connection.client.zrange(ledger.connection.key("errors", batch), 0, -1):
        state, kind, one = entry.split(":", 2)
        row = ledger.connection.client.hgetall(ledger.connection.key("download", one))
        # After an error a download may also wait without being listed, once its worker died.
        if state != State.RETRY or row.get("state") != State.RETRY or kind not in row["error"]:
            numbers[f"listed:{state}:{kind}"] = numbers.get(f"listed:{state}:{kind}", 0) + 1
    # Not a unary plus: it drops negative counts too, and those must be seen.
    return Counter({name: number for name, number in numbers.items() if number})
