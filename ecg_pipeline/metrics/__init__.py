"""Labels and scores in, figures out."""
