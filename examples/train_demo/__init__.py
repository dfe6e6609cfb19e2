"""Train a tiny bilingual MiniMind from nothing: corpus, tokenizer, trainer, and a measure of what it learned."""
