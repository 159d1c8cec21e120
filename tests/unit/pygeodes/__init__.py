"""Tests of pygeodes."""
