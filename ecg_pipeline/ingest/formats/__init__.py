"""The file formats that are read."""
