"""Artifacts on disk: the files of an exported model, and the readers that check them."""
