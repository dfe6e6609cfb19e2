"""The gate for tensors: what is not dense, on the CPU, real, finite and held by its file is refused in one line."""

from __future__ import annotations

import warnings

import pytest
import torch

from minimind_edge.minimind import CheckpointError, load_checkpoint

DOWN, UP = (f"model.layers.0.self_attn.q_proj.lora.{part}.weight" for part in "AB")
BASE = "model.layers.0.mlp.up_proj.weight"


def csr(rows: int, columns: int) -> torch.Tensor:
    """Indices far outside of the shape: whoever computes with them reads foreign memory."""
    pointers = torch.tensor([0, *[2] * (rows - 1), 10**9])
    return torch.sparse_csr_tensor(
        pointers, torch.tensor([0, 10**8]), torch.ones(2), size=(rows, columns), check_invariants=False
    )


def coo(rows: int, columns: int) -> torch.Tensor:
    indices = torch.tensor([[0, 10**9], [0, 1]])
    return torch.sparse_coo_tensor(indices, torch.ones(2), size=(rows, columns), check_invariants=False)


HOSTILE = {
    "csr": (csr, "is sparse_csr; expected a dense one"),
    "coo": (coo, "is sparse_coo; expected a dense one"),
    "meta": (lambda rows, columns: torch.empty(rows, columns, device="meta"), "on device 'meta'"),
    "expanded": (lambda rows, columns: torch.ones(1).expand(rows, columns), "a stride of 0"),
    "nested": (lambda rows, columns: torch.nested.nested_tensor([torch.ones(rows), torch.ones(columns)]), "is nested"),
    "complex": (lambda rows, columns: torch.ones(rows, columns, dtype=torch.complex64), "is complex64"),
    "float8": (lambda rows, columns: torch.ones(rows, columns).to(torch.float8_e4m3fn), "is float8_e4m3fn"),
    "nan": (lambda rows, columns: torch.full((rows, columns), torch.nan), "values that are NaN or infinite"),
}


@pytest.mark.parametrize("place", ["base", "adapter"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_refused_in_base_and_adapter(kind, place, make_state, save):
    make, message = HOSTILE[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if place == "base":
            file, lora = save(make_state() | {BASE: make(96, 64)}), None
        else:
            file, lora = save(make_state()), save({DOWN: make(3, 64), UP: torch.ones(64, 3)}, "lora_64.pth")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(file, lora=lora)
    assert (lora or file).name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_windows_of_one_storage_that_add_up_to_more_than_the_file(make_state, save):
    storage = torch.ones(96 * 64 + 40)
    windows = {f"model.layers.{i}.extra.weight": storage[i : i + 96 * 64].view(96, 64) for i in range(40)}
    file = save(make_state() | windows)
    assert file.stat().st_size < 40 * 96 * 64 * 4
    with pytest.raises(CheckpointError, match=r"take \d+ bytes, more than the file's \d+"):
        load_checkpoint(file)


def test_one_tensor_under_two_names_is_counted_once(make_state, save):
    state = make_state()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    assert load_checkpoint(save(state)).config.tie_word_embeddings


def test_messages_carry_no_control_characters_and_end(make_state, save):
    name = "\x1b[31m\u202e" + "layers." * 1000 + "\x00"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(save(make_state() | {name: torch.ones(2)}))
    message = str(caught.value)
    assert message.isprintable()
    assert "x1b[31m" in message
    assert len(message) < 700


def test_a_training_state_that_holds_itself(save):
    content: dict[str, object] = {}
    content["model"] = content
    with pytest.raises(CheckpointError, match="expected a state dict of tensors"):
        load_checkpoint(save(content))
