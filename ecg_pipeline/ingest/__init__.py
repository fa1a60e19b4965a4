"""Files of a hospital or data set, read into a waveform store."""
