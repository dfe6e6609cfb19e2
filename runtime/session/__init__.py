"""The session: token ids in, next-token logits out, over a KV cache."""
