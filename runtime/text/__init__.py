"""Conversion between text and token ids: the tokenizer, chat templates, prompts, and streamed text."""
