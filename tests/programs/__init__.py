"""Programs as users write them: type-checked, and run on one machine and on a cluster."""
