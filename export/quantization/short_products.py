"""Products in bfloat16: calibration text runs through a model in half the time, where the processor can do that."""

from __future__ import annotations

from typing import Any

import torch


def short_products() -> torch.autocast:
    """A context in which a model's layers multiply in bfloat16, on a processor that has instructions for it.

    The rounding of bfloat16, 0.2 %, is small next to that of weights to four bits. What is added up over layers stays
    float32.
    """
    # torch 2.13 tells of them, torch 2.9 does not.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_instructions = bool(capabilities.get("avx512_bf16"))
    # Casts of weights are not kept, since the weights change while they are in use.
    return torch.autocast("cpu", torch.bfloat16, enabled=has_instructions, cache_enabled=False)
