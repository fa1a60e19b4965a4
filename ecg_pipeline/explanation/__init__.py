"""Explaining a classifier: attribution maps, attention rollout, and their shares by lead and by wave."""
