"""ECGs as images: the eight leads plotted at a fixed scale, and the paper's distance between images."""
