"""Every container that a checkpoint comes in, and its digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minimind_edge.minimind import CheckpointError, load_checkpoint, read_checkpoint


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([[3, 14, 15, 9, 26]])).logits


@pytest.fixture
def expected(make_state, save):
    return logits(load_checkpoint(save(make_state(), "reference/plain.pth")))


def shards(state, folder: Path, stem: str, suffix: str) -> Path:
    """Write `state` in two shards with their index; returns the index."""
    names = sorted(state)
    halves = {f"{stem}-0000{i + 1}-of-00002{suffix}": names[i::2] for i in range(2)}
    for name, part in halves.items():
        tensors = {key: state[key] for key in part}
        if suffix == ".safetensors":
            save_file(tensors, folder / name)
        else:
            torch.save(tensors, folder / name)
    weight_map = {key: name for name, part in halves.items() for key in part}
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "no_suffix"])
def test_torch_file(name, make_state, save, expected):
    assert torch.equal(logits(load_checkpoint(save(make_state(), name))), expected)


@pytest.mark.parametrize("name", ["a.safetensors", "misnamed.pth"])
def test_safetensors_is_told_by_content(name, make_state, tmp_path, expected):
    save_file(make_state(), tmp_path / name)
    assert torch.equal(logits(load_checkpoint(tmp_path / name)), expected)


def test_old_torch_format(make_state, tmp_path, expected):
    file = tmp_path / "old.pth"
    torch.save(make_state(), file, _use_new_zipfile_serialization=False)
    assert torch.equal(logits(load_checkpoint(file)), expected)


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("pytorch_model", ".bin")])
def test_sharded(stem, suffix, make_state, tmp_path, expected):
    index = shards(make_state(), tmp_path, stem, suffix)
    by_folder, by_index = read_checkpoint(tmp_path), read_checkpoint(index)
    assert torch.equal(logits(by_folder.model), expected)
    assert torch.equal(logits(by_index.model), expected)
    files = sorted(tmp_path.glob(f"*{suffix}"))
    assert by_folder.report.files == tuple(files)
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert by_folder.report.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert f"{tmp_path} (2 shards)" in by_folder.report.lines()[0]


def test_digest_of_a_single_file(make_state, save):
    file = save(make_state())
    assert read_checkpoint(file).report.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_training_state_is_unwrapped(make_state, save, expected):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    content = {"model": make_state(), "optimizer": optimizer.state_dict(), "epoch": 1, "step": 20, "wandb_id": None}
    assert torch.equal(logits(load_checkpoint(save(content, "full_sft_64_resume.pth"))), expected)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_are_stripped(prefix, make_state, save, expected):
    state = {prefix + name: tensor for name, tensor in make_state().items()}
    assert torch.equal(logits(load_checkpoint(save(state))), expected)


def test_compiled_blocks_are_stripped_too(make_state, save, expected):
    state = {name.replace("layers.1.", "layers.1._orig_mod."): tensor for name, tensor in make_state().items()}
    assert torch.equal(logits(load_checkpoint(save(state))), expected)


def test_the_same_tensor_under_two_prefixes(make_state, save):
    state = make_state()
    state["module.model.norm.weight"] = state["model.norm.weight"]
    with pytest.raises(CheckpointError, match=r"tensor model\.norm\.weight is in the checkpoint twice"):
        load_checkpoint(save(state))


@pytest.mark.parametrize("kind", ["v1", "minimind2"])
def test_buffers_are_ignored(kind, make_state, save):
    state = make_state(kind)
    buffers = {
        "pos_cis": torch.polar(torch.ones(8, 4), torch.ones(8, 4)),
        "model.freqs_cos": torch.full((8, 8), torch.nan),
        "model.freqs_sin": torch.ones(8, 8, dtype=torch.int64),
        "layers.0.attention.mask": torch.full((1, 1, 8, 8), -torch.inf),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
    }
    plain = logits(load_checkpoint(save(state, "plain.pth")))
    assert torch.equal(logits(load_checkpoint(save(state | buffers))), plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_is_taken(dtype, make_state, save):
    state = {name: tensor.to(dtype) for name, tensor in make_state().items()}
    norm = load_checkpoint(save(state)).model.norm.weight
    assert norm.dtype == torch.float32
    assert torch.equal(norm, state["model.norm.weight"].float())


def test_transposed_storage_is_taken(make_state, save, expected):
    state = {
        name: tensor.t().contiguous().t() if tensor.dim() == 2 else tensor for name, tensor in make_state().items()
    }
    model = load_checkpoint(save(state))
    assert torch.allclose(logits(model), expected, atol=1e-6)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_folder_with_one_weight_file(make_state, save, tmp_path, expected):
    save(make_state(), "folder/full_sft_64.pth")
    (tmp_path / "folder" / "training_args.bin").write_bytes(b"not weights")
    assert torch.equal(logits(load_checkpoint(tmp_path / "folder")), expected)


def test_folder_with_two_weight_files(make_state, save, tmp_path):
    for name in ("folder/full_sft_64.pth", "folder/pretrain_64.pth"):
        save(make_state(), name)
    with pytest.raises(CheckpointError, match=r"2 weight files .*\(full_sft_64.pth, pretrain_64.pth\); pass the one"):
        load_checkpoint(tmp_path / "folder")


def test_tokenizer_beside_the_weights(make_state, save, tmp_path):
    file = save(make_state(), "folder/a.pth")
    assert read_checkpoint(file).report.tokenizer is None
    (tmp_path / "folder" / "tokenizer.json").write_text("{}")
    assert read_checkpoint(file).report.tokenizer == tmp_path / "folder"
    assert read_checkpoint(tmp_path / "folder").report.tokenizer == tmp_path / "folder"


def test_the_model_does_not_need_the_file_any_more(make_state, tmp_path, expected):
    file = tmp_path / "a.safetensors"
    save_file({name: tensor.float() for name, tensor in make_state().items()}, file)
    model = load_checkpoint(file)
    file.write_bytes(b"")
    assert torch.equal(logits(model), expected)


def test_a_path_may_be_text(make_state, save):
    assert load_checkpoint(str(save(make_state()))).config.hidden_size == 64


class TestIndex:
    def test_missing_shard(self, make_state, tmp_path):
        shards(make_state(), tmp_path, "model", ".safetensors")
        (tmp_path / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"shard model-00002-of-00002.safetensors is missing"):
            load_checkpoint(tmp_path)

    def test_promised_tensor_that_is_not_there(self, make_state, tmp_path):
        index = shards(make_state(), tmp_path, "model", ".safetensors")
        content = json.loads(index.read_text())
        content["weight_map"]["model.extra.weight"] = "model-00001-of-00002.safetensors"
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=r"missing tensor model.extra.weight: the index promises it in"):
            load_checkpoint(tmp_path)

    @pytest.mark.parametrize("name", ["../elsewhere.safetensors", "/etc/passwd", "sub/a.safetensors", "..", ""])
    def test_files_outside_the_folder(self, name, tmp_path):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match=r"index\.json"):
            load_checkpoint(tmp_path)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "{" * 100000])
    def test_broken_index(self, text, tmp_path):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"index\.json"):
            load_checkpoint(tmp_path)
