"""What a published paper says: its tables, and where this pipeline departs from it."""
