"""TensorRT and TensorRT-RTX plans: what they need, what is here, and the session that runs them."""

from __future__ import annotations
