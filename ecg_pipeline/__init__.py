"""From hospital XML to an audited ECG foundation model."""
