"""Evaluation of models: predictions on test patients, metrics with intervals, curves and subgroups."""
