"""The check that a model in memory is the stock one, which written graphs and their comparison assume."""

from __future__ import annotations

import torch
from torch import nn

from .causal_lm import MiniMindForCausalLM
from .errors import ConfigError

OURS = ("minimind_edge.", "torch.nn.", "transformers.activations")
"""The packages whose modules the stock model consists of."""

WAY_OUT = "export it from its own code (--model FILE.py:CLASS)"


def require_stock(model: nn.Module) -> None:
    """Check that a model is `MiniMindForCausalLM` with the modules of its configuration and unchanged `forward`s.

    Raises:
        ConfigError: A class, a module or a `forward` was changed, and would be exported as if it were stock.
    """
    if not isinstance(model, MiniMindForCausalLM):
        raise ConfigError(f"{_name(model)} is no MiniMindForCausalLM; load its checkpoint by its path, or {WAY_OUT}")
    with torch.device("meta"):
        stock = dict(MiniMindForCausalLM(model.config).named_modules())
    found = dict(model.named_modules())
    changed = next((name for name in {**stock, **found} if name not in stock or name not in found), None)
    if changed is not None:
        raise ConfigError(f"module {changed!r} is {'not ' if changed in found else ''}in the stock model; {WAY_OUT}")
    for name, module in found.items():
        _require_own_forward(name or "the model", module, stock[name])


def _require_own_forward(name: str, module: nn.Module, stock: nn.Module) -> None:
    same_class = type(module) is type(stock) or (name == "the model" and isinstance(module, type(stock)))
    if not same_class:
        raise ConfigError(f"{name} is a {_name(module)}, in the stock model a {_name(stock)}; {WAY_OUT}")
    forward = type(module).forward
    if "forward" in vars(module) or not getattr(forward, "__module__", "").startswith(OURS):
        raise ConfigError(f"{name} has a forward of its own; {WAY_OUT}")
    if module._forward_hooks or module._forward_pre_hooks:
        raise ConfigError(f"{name} has forward hooks, which no graph has; remove them, or {WAY_OUT}")


def _name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
