"""Images to patch tokens, the targets of pretraining: tokenizers, their training or import, and token shards."""
