"""Tests of the servers behind the UI."""
