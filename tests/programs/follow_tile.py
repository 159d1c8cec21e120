"""Open the batch again in another process: wait, retry what failed, and read the results."""

from pathlib import Path

from geodes_tasks import batch, batches, errors

tile = batch("tile")
assert [one.id for one in batches()] == ["tile"]
status = tile.wait(timeout=60, until="blocked", quiet=True)
for record in tile.failures():
    assert record.error is not None
    print(record.item_id, record.error.type)
if not status.ok:
    print(tile.retry(classes=["LicenceError"]), "again")
    status = tile.wait(timeout=60, quiet=True)
try:
    status.raise_for_status()
except errors.GeodesTasksError as error:
    print(type(error).__name__)
sizes = [Path(one.path).stat().st_size for one in tile.iter_results() if one.verified]
table = tile.to_dataframe()
print(len(sizes), sum(sizes), len(table), sorted(set(table["state"])))
