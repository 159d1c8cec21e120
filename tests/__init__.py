"""Tests of geodes_tasks, and the servers they need."""
