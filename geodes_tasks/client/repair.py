"""Fetch files again that an audit found wrong: asked for anew, as the ledger knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geodes_tasks.client.planning import Planned
from geodes_tasks.ledger import Ledger, Request

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
        ledger.retention.discard_proof(one.download_id)
        for asset in ledger.reading.assets([one.download_id]).values():
            requests.append(Request(asset, one.path))
    return [Planned(requests=[request]) for request in requests]
