"""ONNX Runtime as the session's backend."""
