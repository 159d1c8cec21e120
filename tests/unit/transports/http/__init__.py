"""Tests of transports/http."""
