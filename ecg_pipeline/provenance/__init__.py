"""What made an output: one record beside each, written last. Files only: no Dagster, no MLflow."""
