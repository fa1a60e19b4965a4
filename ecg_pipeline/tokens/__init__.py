"""Images to patch tokens: the tokenizer, how it is trained or imported, and the tokens of every sheet."""
