"""``python -m geodes_tasks``."""

from geodes_tasks.cli import main

main()
