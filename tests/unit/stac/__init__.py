"""Tests of stac."""
