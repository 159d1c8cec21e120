"""pygeodes' names: search, download, queue and profile, as its users know them."""
