"""Tests of monitoring/reports."""
