"""Files to waveform store: readers of hospital formats, rejects with reasons, pseudonyms at the door."""
