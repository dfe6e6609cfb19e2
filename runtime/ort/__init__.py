"""The session's model in ONNX Runtime."""
