"""Model families behind one interface: from stored images (uint8) to logits."""
