"""Provenance: a record beside each output, written last. Files only: no Dagster, no MLflow."""
