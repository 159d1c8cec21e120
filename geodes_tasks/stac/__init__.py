"""Item JSON in: assets, readers of files, the catalogue."""
