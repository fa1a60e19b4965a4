"""Model families behind one interface: images as they are stored in, logits out."""
