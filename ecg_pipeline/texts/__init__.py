"""Physicians' and carts' words on ECGs: cleaned texts, their tokenizer and tokens, and the texts least like each."""
