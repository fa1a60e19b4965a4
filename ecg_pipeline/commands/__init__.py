"""The commands of `ecg-pipeline` on where outputs come from, one module for each; `cli` registers them."""
