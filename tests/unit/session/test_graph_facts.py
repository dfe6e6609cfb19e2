from __future__ import annotations

from types import SimpleNamespace

import pytest

from minimind_edge.runtime.errors import ArtifactError
from minimind_edge.runtime.session.contract import GraphFacts


def nodes(**shapes):
    """One layer, as ONNX Runtime describes it; a keyword changes the shape of a node."""
    cache = ["batch", 2, "past", 8]
    kinds = {
        "input_ids": ("tensor(int64)", ["batch", "seq"]),
        "attention_mask": ("tensor(int64)", ["batch", "total"]),
        "position_ids": ("tensor(int64)", ["batch", "seq"]),
        "past_key_values.0.key": ("tensor(float)", cache),
        "past_key_values.0.value": ("tensor(float)", cache),
        "logits": ("tensor(float)", ["batch", "seq", 32]),
        "present.0.key": ("tensor(float)", cache),
        "present.0.value": ("tensor(float)", cache),
    }
    found = [
        SimpleNamespace(name=name, type=kind, shape=shapes.get(name, shape)) for name, (kind, shape) in kinds.items()
    ]
    return found[:5], found[5:]


def test_an_interface_that_will_do():
    facts = GraphFacts.read(*nodes(), {})
    assert (facts.num_layers, facts.num_key_value_heads, facts.head_dim, facts.vocab_size) == (1, 2, 8, 32)


def test_no_fixed_vocabulary():
    with pytest.raises(ArtifactError, match="no fixed vocabulary size"):
        GraphFacts.read(*nodes(logits=["batch", "seq", "words"]), {})


@pytest.mark.parametrize("shape", [["batch", 2, "past", 16], ["batch", 4, "past", 8], ["batch", 2, 8]])
def test_layers_that_differ(shape):
    with pytest.raises(ArtifactError, match=r"one H_kv and D"):
        GraphFacts.read(*nodes(**{"past_key_values.0.value": shape}), {})


@pytest.mark.parametrize("shape", [["batch", "heads", "past", 8], ["batch", 2, "past", "dim"], ["batch", 0, "past", 8]])
def test_a_cache_without_fixed_heads(shape):
    with pytest.raises(ArtifactError, match=r"one H_kv and D"):
        GraphFacts.read(*nodes(**{"past_key_values.0.key": shape, "past_key_values.0.value": shape}), {})
