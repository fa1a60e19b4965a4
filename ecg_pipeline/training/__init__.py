"""Training loops: pretraining by masked image modelling, fine-tuning by task, and scoring."""
