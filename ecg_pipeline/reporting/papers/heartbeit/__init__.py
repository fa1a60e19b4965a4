"""The HeartBEiT paper (Vaid et al., 2023)."""
