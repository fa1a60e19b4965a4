"""How networks are trained: pretraining by masked image modelling, fine-tuning by task."""
