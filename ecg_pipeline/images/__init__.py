"""Waveform to sheet: the eight leads drawn at a fixed scale on one square image, and the views a model takes of it."""
