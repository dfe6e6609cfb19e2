"""TensorRT and TensorRT-RTX plans: their requirements, and the session's model that runs them."""

from __future__ import annotations
