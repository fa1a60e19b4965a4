"""Waveform to waveform: the paper's filters, derived leads, plain measures of quality."""
