"""Graphs that are traced from a model's own code, for models that their owners changed."""
