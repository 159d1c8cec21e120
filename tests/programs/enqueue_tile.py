"""Search for the images of one tile, and enqueue them; ``follow_tile.py`` does the rest."""

from geodes_tasks import Batch, Config, Geodes, enqueue

config = Config.from_file()
with Geodes(config) as geodes:
    items = geodes.search_items(
        {"eo:cloud_cover": {"lte": 90}},
        collections=["PEPS_S2_L1C"],
        get_all=True,
        return_df=False,
        quiet=True,
    )
items.sort(key=lambda item: item.id)
batch: Batch = enqueue(items, download_dir="tile", batch="tile", priority=1, source="geodes")
status = batch.status()
print(batch.id, status.total, status.states["PENDING"], batch.owner)
