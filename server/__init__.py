"""The HTTP server: OpenAI's interface over continuous batching (extra `serve`)."""
