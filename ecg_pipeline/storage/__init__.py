"""Files that are whole or absent, arrays in shards, and a pool of processes."""
