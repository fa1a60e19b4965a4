"""The same mathematics once more, written plainly from published descriptions, to make fixtures of any shape.

Nothing here imports the code under test: weights are dictionaries under the authors' names, networks are functions.
"""
