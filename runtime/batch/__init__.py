"""Continuous batching: many completions at once, whose rows join and leave the batch at any step."""
