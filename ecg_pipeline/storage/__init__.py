"""Atomic files and digests, sharded arrays, and parallel work over shards."""
