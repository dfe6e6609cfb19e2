"""Benchmark of servers over HTTP: this project's against llama-server and OpenVINO GenAI's continuous batching."""
