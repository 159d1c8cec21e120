"""Fetch files again that an audit found wrong: asked for anew, as the ledger knows them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from geodes_tasks.client.planning import Planned
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.model.asset import Asset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.transfer.audit import Expected


def planned(ledger: Ledger, wrong: Sequence[Expected]) -> list[Planned]:
    """Turn wrong files into requests; the right ones of the same batch are left alone.

    What the ledger has proven of a file is forgotten here: a flipped bit need change neither
    size nor time, and one stat would find such a file unchanged.

    Raises:
        LedgerUnavailableError: Redis does not answer; say it again.
    """
    requests = []
    for one in wrong:
        key = ledger.connection.key("download", one.download_id)
        with ledger.connection.commands():
            spec = ledger.connection.client.hget(key, "spec")
            ledger.connection.client.hdel(key, "proof")
        if spec:
            requests.append(Request(Asset.from_dict(json.loads(spec)), one.path))
    return [Planned(requests=[request]) for request in requests]
