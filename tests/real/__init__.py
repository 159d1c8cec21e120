"""Tests with the real programs of a cluster, as root; run by ``make test-real``."""
