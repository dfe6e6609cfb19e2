"""MiniMinds as their owners change them: the names of the tensors are stock, the computation is not.

Each keeps the protocol: input_ids, attention_mask, position_ids and past_key_values in, logits and presents out.
"""

import torch
from torch import nn
from torch.nn import functional

from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM

HIDDEN = -1.0e9
WINDOW = 64


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def rotated(x, positions, theta, width):
    """The first `width` numbers of each head, [B, heads, S, D], turned by their positions' angles."""
    turned, rest = x[..., :width], x[..., width:]
    rates = theta ** (-torch.arange(0, width, 2).float() / width)
    angles = (positions[:, None, :, None].float() * rates).repeat(1, 1, 1, 2)
    first, second = turned[..., : width // 2], turned[..., width // 2 :]
    turned = turned * angles.cos() + torch.cat((-second, first), dim=-1) * angles.sin()
    return torch.cat((turned, rest), dim=-1)


class Attention(nn.Module):
    rotary_share = 1.0

    def __init__(self, config):
        super().__init__()
        self.heads, self.key_heads, self.width = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.theta = config.rope_theta
        self.q_proj = nn.Linear(config.hidden_size, self.heads * self.width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, self.key_heads * self.width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, self.key_heads * self.width, bias=False)
        self.o_proj = nn.Linear(self.heads * self.width, config.hidden_size, bias=False)

    def forward(self, x, bias, positions, past):
        split = [p(x).unflatten(-1, (-1, self.width)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj)]
        q, k, v = split
        turned = int(self.width * self.rotary_share)
        if turned:
            q, k = rotated(q, positions, self.theta, turned), rotated(k, positions, self.theta, turned)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        group = self.heads // self.key_heads
        scores = q @ k.repeat_interleave(group, dim=1).transpose(2, 3) / self.width**0.5 + bias
        mixed = scores.softmax(-1) @ v.repeat_interleave(group, dim=1)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), (k, v)


class FeedForward(nn.Module):
    scale = 1.0

    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def activation(self, x):
        return functional.silu(x)

    def forward(self, x):
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x)) * self.scale


class Block(nn.Module):
    attention, feed_forward = Attention, FeedForward

    def __init__(self, config):
        super().__init__()
        self.input_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = self.attention(config)
        self.post_attention_layernorm = Norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = self.feed_forward(config)

    def forward(self, x, bias, positions, past):
        attended, present = self.self_attn(self.input_layernorm(x), bias, positions, past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), present


class Body(nn.Module):
    def __init__(self, config, block):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(block(config) for _ in range(config.num_hidden_layers))
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    config_class = MiniMindConfig
    block = Block

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Body(config, self.block)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight

    def visible(self, attention_mask, tokens):
        """Which slots each token sees, [B, S, T]."""
        slots = torch.arange(attention_mask.shape[1])
        own = slots[attention_mask.shape[1] - tokens :]
        return (slots <= own[:, None]) & attention_mask[:, None].bool()

    def embedded(self, input_ids, position_ids):
        return self.model.embed_tokens(input_ids)

    def forward(self, input_ids, attention_mask, position_ids, past_key_values=None):
        x = self.embedded(input_ids, position_ids)
        bias = torch.where(self.visible(attention_mask, input_ids.shape[1]), 0.0, HIDDEN)[:, None]
        presents = []
        for index, layer in enumerate(self.model.layers):
            past = None if past_key_values is None else past_key_values[index]
            x, present = layer(x, bias, position_ids, past)
            presents.append(present)
        return self.lm_head(self.model.norm(x)), presents


class GeluFeedForward(FeedForward):
    def activation(self, x):
        return functional.gelu(x)


class GeluBlock(Block):
    feed_forward = GeluFeedForward


class Gelu(Decoder):
    """GELU in the place of SiLU."""

    block = GeluBlock


class HalvedFeedForward(FeedForward):
    scale = 0.5


class HalvedBlock(Block):
    feed_forward = HalvedFeedForward


class Halved(Decoder):
    """Half of what the feed-forward network gives."""

    block = HalvedBlock


class SlidingWindow(Decoder):
    """No token sees further back than 64 real ones."""

    def visible(self, attention_mask, tokens):
        count = attention_mask.cumsum(-1)
        own = count[:, count.shape[1] - tokens :]
        return super().visible(attention_mask, tokens) & (own[:, :, None] - count[:, None] < WINDOW)


class PostNormBlock(Block):
    def forward(self, x, bias, positions, past):
        attended, present = self.self_attn(x, bias, positions, past)
        x = self.input_layernorm(x + attended)
        return self.post_attention_layernorm(x + self.mlp(x)), present


class PostNorm(Decoder):
    """Norms after the sums, as in the first transformers."""

    block = PostNormBlock


class HalfRotaryAttention(Attention):
    rotary_share = 0.5


class HalfRotaryBlock(Block):
    attention = HalfRotaryAttention


class PartialRotary(Decoder):
    """Half of each head is rotated."""

    block = HalfRotaryBlock


class UnrotatedAttention(Attention):
    rotary_share = 0.0


class UnrotatedBlock(Block):
    attention = UnrotatedAttention


class LearnedPositions(Decoder):
    """An embedding of positions, and no rotation."""

    block = UnrotatedBlock

    def __init__(self, config):
        super().__init__(config)
        self.model.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def embedded(self, input_ids, position_ids):
        return self.model.embed_tokens(input_ids) + self.model.embed_positions(position_ids)


class SharedGateExperts(nn.Module):
    """The best 2 of 8 experts, and a shared one with a gate of its own; every expert computes every token."""

    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, 8, bias=False)
        self.experts = nn.ModuleList(FeedForward(config) for _ in range(8))
        self.shared_experts = nn.ModuleList([FeedForward(config)])
        self.shared_gate = nn.Linear(config.hidden_size, 1, bias=False)

    def forward(self, x):
        scores = self.gate(x).softmax(-1)
        weights, chosen = scores.topk(2, dim=-1)
        shares = torch.zeros_like(scores).scatter(-1, chosen, weights / weights.sum(-1, keepdim=True))
        routed = sum(expert(x) * shares[..., index, None] for index, expert in enumerate(self.experts))
        return routed + self.shared_gate(x).sigmoid() * self.shared_experts[0](x)


class ExpertsBlock(Block):
    feed_forward = SharedGateExperts


class SharedGate(Decoder):
    """A mixture of experts, 2 of 8, whose shared expert has a gate."""

    block = ExpertsBlock


class Capped(MiniMindForCausalLM):
    """A subclass of the toolkit's own model: logits that stay within 10."""

    def forward(self, input_ids, attention_mask=None, position_ids=None, past_key_values=None, **keywords):
        output = super().forward(input_ids, attention_mask, position_ids, past_key_values, **keywords)
        output.logits = 10 * torch.tanh(output.logits / 10)
        return output
