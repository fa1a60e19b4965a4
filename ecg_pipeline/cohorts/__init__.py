"""Who is in a task, with which label, on which side of the split, in which fraction."""
