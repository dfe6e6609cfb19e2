"""A model in memory that is not the stock one is refused: it would be exported, and proven, as if it were."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from minimind_edge.export.graph import build_graph
from minimind_edge.minimind import ConfigError, MiniMindConfig, MiniMindForCausalLM
from minimind_edge.minimind.feed_forward import FeedForward
from minimind_edge.minimind.stock import require_stock

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 32}


class HalvedFeedForward(FeedForward):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 0.5


class Mine(MiniMindForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits.tanh()
        return output


def stock(**fields) -> MiniMindForCausalLM:
    return MiniMindForCausalLM(MiniMindConfig(**SIZES | fields)).eval()


def subclass() -> nn.Module:
    return Mine(MiniMindConfig(**SIZES))


def other_activation() -> nn.Module:
    model = stock()
    model.model.layers[1].mlp.act_fn = nn.GELU()
    return model


def other_feed_forward() -> nn.Module:
    model = stock()
    model.model.layers[0].mlp = HalvedFeedForward(model.config)
    return model


def patched_forward() -> nn.Module:
    model = stock()
    norm = model.model.norm
    norm.forward = types.MethodType(lambda self, x: x, norm)
    return model


def hooked() -> nn.Module:
    model = stock()
    model.model.layers[0].register_forward_hook(lambda module, args, output: output)
    return model


def more_modules() -> nn.Module:
    model = stock()
    model.model.layers[0].post_norm = nn.Identity()
    return model


def fewer_modules() -> nn.Module:
    model = stock(qk_norm=True)
    del model.model.layers[0].self_attn.resid_dropout
    return model


CHANGED = {
    subclass: "the model has a forward of its own",
    other_activation: r"model\.layers\.1\.mlp\.act_fn is a torch\.nn\.\S+GELU",
    other_feed_forward: r"model\.layers\.0\.mlp is a \S+HalvedFeedForward",
    patched_forward: r"model\.norm has a forward of its own",
    hooked: r"model\.layers\.0 has forward hooks",
    more_modules: r"'model\.layers\.0\.post_norm' is not in the stock model",
    fewer_modules: r"'model\.layers\.0\.self_attn\.resid_dropout' is in the stock model",
    lambda: nn.Linear(2, 2): "is no MiniMindForCausalLM",
}


@pytest.mark.parametrize("make", CHANGED)
def test_a_changed_model_is_refused_with_the_way_out(make):
    for refuse in (require_stock, lambda model: build_graph(model, "portable", "fp32", 64)):
        with pytest.raises(ConfigError, match=CHANGED[make]) as caught:
            refuse(make())
        assert "--model FILE.py:CLASS" in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{}, {"use_moe": True}, {"qk_norm": True, "n_shared_experts": 0, "use_moe": True}, {"flash_attn": False}]
)
def test_every_stock_model_is_taken(fields):
    require_stock(stock(**fields))
    require_stock(stock(**fields).train().half())
