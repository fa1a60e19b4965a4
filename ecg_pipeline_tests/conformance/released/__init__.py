"""What the released code of HeartBEiT, BEiT and DALL-E has and the pipeline does not use, to check fixtures of it."""
