"""A stand-in for GEODES on a real socket.

    with StandIn(api_key="secret") as standin:
        item = standin.add_item(size=2 * MiB)
        standin.fault(item, "truncate", after=100_000, times=1)
        ...
        assert [r.status for r in standin.downloads(item)] == [200, 200]

Map: `standin` (start, seed, steer, stop), `portal` (routes), `downloads` with `gates` and
`ranges` (what a GET on a file gets), `modes` and `faults` (what goes wrong, and when),
`accounts` (keys and quota), `catalogue` with `spec`, `items`, `assets` and `variants` (what there
is), `search`, `bodies` (the bytes), `answers` and `wire` (the socket), `control` (the same over
HTTP).
"""

from tests.standin.accounts import Quota
from tests.standin.bodies import (
    BytesBody,
    FileBody,
    GeneratedBody,
    GiB,
    KiB,
    MiB,
    digest,
    read,
)  # fmt: skip
from tests.standin.faults import Fault
from tests.standin.gates import RETRY_AFTER_FORMS
from tests.standin.modes import BadKey, BadLength, Mode, RangeBehaviour
from tests.standin.requestlog import RequestRecord
from tests.standin.settings import Config, Counts
from tests.standin.spec import Item, ItemSpec
from tests.standin.standin import OtherHost, StandIn
from tests.standin.variants import variants

__all__ = [
    # The servers
    "StandIn", "OtherHost", "Config", "Counts", "Quota", "RequestRecord",
    # What goes wrong
    "Fault", "Mode", "BadKey", "BadLength", "RangeBehaviour", "RETRY_AFTER_FORMS",
    # What there is
    "Item", "ItemSpec", "variants",
    # The bytes
    "GeneratedBody", "BytesBody", "FileBody", "digest", "read", "KiB", "MiB", "GiB",
]  # fmt: skip
