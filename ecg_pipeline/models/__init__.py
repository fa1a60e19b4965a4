"""Networks behind one interface: sheets in, logits out."""
