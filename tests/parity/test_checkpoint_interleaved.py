"""v1 and MiniMind2-legacy against a plain reading of their architecture, with RoPE as a complex multiplication.

Source: Su et al. 2021, "RoFormer", equation 12: a pair of neighbouring elements is a complex number that turns with its
position.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import silu

from minimind_edge.minimind import apply_rotary_pos_emb, load_checkpoint, precompute_freqs_cis
from minimind_edge.minimind.checkpoint.rotary_order import interleaved_to_rotate_half

H, V, WIDTH, LAYERS, EXPERTS = 64, 97, 128, 2, 4


def turned(x: torch.Tensor, theta: float) -> torch.Tensor:
    """Rotate [S, heads, D] by its positions, neighbouring elements as one complex number."""
    length, _, dim = x.shape
    frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    pairs = torch.view_as_complex(x.double().reshape(length, -1, dim // 2, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(2)


class Reference:
    """The forward pass of a legacy state dict, one sequence, float64, token by token where experts are chosen."""

    def __init__(self, state, heads: int, kv_heads: int, theta: float) -> None:
        self.state = {name: tensor.double() for name, tensor in state.items()}
        self.heads, self.kv_heads, self.theta = heads, kv_heads, theta

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.state["tok_embeddings.weight"][ids]
        for layer in range(LAYERS):
            at = f"layers.{layer}"
            x = x + self.attention(self.norm(x, f"{at}.attention_norm"), f"{at}.attention")
            x = x + self.feed_forward(self.norm(x, f"{at}.ffn_norm"), f"{at}.feed_forward")
        return self.norm(x, "norm") @ self.state["output.weight"].T

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.state[f"{name}.weight"] * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    def attention(self, x: torch.Tensor, at: str) -> torch.Tensor:
        length, dim = len(x), H // self.heads
        q, k, v = ((x @ self.state[f"{at}.{name}.weight"].T).reshape(length, -1, dim) for name in ("wq", "wk", "wv"))
        q, k = turned(q, self.theta), turned(k, self.theta)
        out = torch.zeros(length, self.heads, dim, dtype=torch.float64)
        for head in range(self.heads):
            shared = head // (self.heads // self.kv_heads)
            scores = q[:, head] @ k[:, shared].T / math.sqrt(dim)
            future = torch.ones(length, length).triu(1).bool()
            out[:, head] = scores.masked_fill(future, -math.inf).softmax(-1) @ v[:, shared]
        return out.flatten(1) @ self.state[f"{at}.wo.weight"].T

    def feed_forward(self, x: torch.Tensor, at: str) -> torch.Tensor:
        if f"{at}.gate.weight" not in self.state:
            return self.swiglu(x, at)
        rows = []
        for token in x:
            scores = (self.state[f"{at}.gate.weight"] @ token).softmax(-1)
            best, chosen = scores.topk(2)
            routed = [
                weight * self.swiglu(token, f"{at}.experts.{expert}")
                for weight, expert in zip(best / best.sum(), chosen.tolist(), strict=True)
            ]
            rows.append(sum(routed) + self.swiglu(token, f"{at}.shared_experts"))
        return torch.stack(rows)

    def swiglu(self, x: torch.Tensor, at: str) -> torch.Tensor:
        gate, down, up = (self.state[f"{at}.w{number}.weight"] for number in (1, 2, 3))
        return (silu(x @ gate.T) * (x @ up.T)) @ down.T


def legacy_state(kv_rows: int, moe: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 1.5 / math.sqrt(shape[-1])).half()

    state = {"tok_embeddings.weight": draw(V, H) * 4, "norm.weight": 1 + draw(H)}
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        for name, rows in (("wq", H), ("wk", kv_rows), ("wv", kv_rows), ("wo", H)):
            state[f"{at}.attention.{name}.weight"] = draw(rows, H)
        for name in ("attention_norm", "ffn_norm"):
            state[f"{at}.{name}.weight"] = 1 + draw(H)
        owners = [""]
        if moe:
            state[f"{at}.feed_forward.gate.weight"] = draw(EXPERTS, H)
            owners = [f"experts.{expert}." for expert in range(EXPERTS)] + ["shared_experts."]
        for owner in owners:
            for name, shape in (("w1", (WIDTH, H)), ("w2", (H, WIDTH)), ("w3", (WIDTH, H))):
                state[f"{at}.feed_forward.{owner}{name}.weight"] = draw(*shape)
    return state | {"output.weight": state["tok_embeddings.weight"]}


@pytest.mark.parametrize("moe", [False, True], ids=["dense", "moe"])
@pytest.mark.parametrize(
    ("kv_rows", "heads", "kv_heads", "theta"),
    [(32, 16, 8, 1e4), (16, 8, 2, 1e6)],
    ids=["v1", "minimind2-legacy"],
)
def test_logits(kv_rows, heads, kv_heads, theta, moe, tmp_path):
    state = legacy_state(kv_rows, moe)
    torch.save(state, tmp_path / "full_sft_64.pth")
    model = load_checkpoint(tmp_path / "full_sft_64.pth")
    ids = torch.randint(V, (40,), generator=torch.Generator().manual_seed(5))
    expected = Reference(state, heads, kv_heads, theta)(ids)
    with torch.no_grad():
        found = model(ids[None]).logits[0]
    scale = expected.abs().max()
    assert scale > 1
    assert (found - expected).abs().max() < 1e-5 * scale
    assert len(expected.argmax(-1).unique()) > 10


def test_unpermuted_rows_are_another_model(tmp_path):
    """The test above can fail: with the rows left as they are, the logits are far off."""
    state = legacy_state(16, moe=False)
    torch.save(state, tmp_path / "a.pth")
    model = load_checkpoint(tmp_path / "a.pth")
    ids = torch.arange(40)
    expected = Reference(state, 8, 2, 1e6)(ids)
    with torch.no_grad():
        for layer, block in enumerate(model.model.layers):
            block.self_attn.q_proj.weight.copy_(state[f"layers.{layer}.attention.wq.weight"])
            block.self_attn.k_proj.weight.copy_(state[f"layers.{layer}.attention.wk.weight"])
        found = model(ids[None]).logits[0]
    assert (found - expected).abs().max() > 1e-2 * expected.abs().max()


def test_the_permutation_is_exact():
    """Scores of permuted rows under rotate-half equal those of the rows under complex multiplication, in float64."""
    heads, dim, length, theta = 3, 16, 50, 1e4
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(length, H, dtype=torch.float64, generator=generator)
    wq, wk = (torch.randn(heads * dim, H, dtype=torch.float64, generator=generator) for _ in range(2))
    q, k = (turned((x @ w.T).reshape(length, heads, dim), theta) for w in (wq, wk))
    expected = torch.einsum("shd,thd->hst", q, k)
    q, k = ((x @ interleaved_to_rotate_half(w, heads).T).reshape(length, heads, dim) for w in (wq, wk))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * theta ** (-torch.arange(0, dim, 2).double() / dim)
    cos, sin = (torch.cat((part, part), dim=-1) for part in (angle.cos(), angle.sin()))
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    found = torch.einsum("shd,thd->hst", q, k)
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max()
    table, _ = precompute_freqs_cis(dim, length, theta)
    assert torch.allclose(table.double(), cos, atol=1e-5)
