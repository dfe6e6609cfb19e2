"""From a file of each generation to a verified artifact of each target, and what the verification refuses."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch

from minimind_edge.export import ExportRequest, ParityError, export_onnx, verify_artifact
from minimind_edge.export.errors import ExportError
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM
from minimind_edge.runtime import load_session
from minimind_edge.runtime.errors import UsageError

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 120,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
}
LEGACY_NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "model.layers": "layers",
    "self_attn": "attention",
    "q_proj": "wq",
    "k_proj": "wk",
    "v_proj": "wv",
    "o_proj": "wo",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp": "feed_forward",
    "gate_proj": "w1",
    "down_proj": "w2",
    "up_proj": "w3",
    "shared_experts.0": "shared_experts",
    "lm_head": "output",
}


class Saved(NamedTuple):
    """A checkpoint file, the config that its tensors do not tell, and the model that was saved."""

    path: Path
    config: Path
    model: MiniMindForCausalLM


def random_model(config: MiniMindConfig) -> MiniMindForCausalLM:
    model = MiniMindForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        # What float16 holds exactly, so that the file loses nothing.
        parameter.data = (1 + 0.3 * noise if parameter.dim() == 1 else 0.15 * noise).half().float()
    model.tie_weights()
    return model


def to_legacy(state: dict[str, torch.Tensor], head_dim: int) -> dict[str, torch.Tensor]:
    """The names before April 2025, and q and k with their pairs side by side."""

    def paired(name: str, weight: torch.Tensor) -> torch.Tensor:
        if not name.endswith(("q_proj.weight", "k_proj.weight")):
            return weight
        halves = weight.reshape(-1, 2, head_dim // 2, weight.shape[1])
        return halves.transpose(1, 2).reshape(weight.shape)

    def renamed(name: str) -> str:
        return functools.reduce(lambda found, names: found.replace(*names), LEGACY_NAMES.items(), name)

    return {renamed(name): paired(name, weight) for name, weight in state.items()}


KINDS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "v1": ({"rope_theta": 1e4}, False, True),
    "v1 moe": ({"rope_theta": 1e4, "use_moe": True}, False, True),
    "minimind2-legacy": ({"num_key_value_heads": 1}, False, True),
    "minimind2-legacy moe": ({"num_key_value_heads": 1, "use_moe": True}, False, True),
    "minimind2": ({}, False, False),
    "minimind2 moe": ({"use_moe": True}, False, False),
    "minimind2 yarn": ({"inference_rope_scaling": True}, False, False),
    "minimind3": ({"head_dim": 32, "tie_word_embeddings": False}, True, False),
    "minimind3 moe": ({"use_moe": True}, True, False),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """Write the checkpoint of a kind once."""
    made: dict[str, Saved] = {}

    def save(kind: str) -> Saved:
        if kind not in made:
            fields, is_minimind3, is_legacy = KINDS[kind]
            config = (MiniMindConfig.minimind3 if is_minimind3 else MiniMindConfig)(**SMALL | fields)
            model = random_model(config)
            state = {name: weight.half() for name, weight in model.state_dict().items()}
            folder = tmp_path_factory.mktemp(kind.replace(" ", "-"))
            torch.save(to_legacy(state, config.head_dim) if is_legacy else state, folder / "full_sft_64.pth")
            told = ("num_attention_heads", "rope_theta", "inference_rope_scaling", "max_position_embeddings")
            (folder / "overrides.json").write_text(json.dumps({name: getattr(config, name) for name in told}))
            made[kind] = Saved(folder / "full_sft_64.pth", folder / "overrides.json", model)
        return made[kind]

    return save


def request_of(checkpoint: Saved, output: Path, **options: Any) -> ExportRequest:
    return ExportRequest(checkpoint=checkpoint.path, config=checkpoint.config, output=output, **options)


@pytest.mark.parametrize("target", ["portable", "ort"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_generation_arrives(saved: Any, kind: str, target: str, tmp_path: Path) -> None:
    checkpoint = saved(kind)
    result = export_onnx(request_of(checkpoint, tmp_path / "artifact", target=target))

    assert result.parity
    assert result.parity.greedy == (64, 64)
    assert kind.startswith(result.manifest["checkpoint"]["generation"])
    # And against the model that was saved, not the one that was loaded: the file's way in is part of the claim.
    input_ids = np.arange(3, 40)[None]
    with torch.no_grad():
        expected = checkpoint.model(torch.from_numpy(input_ids)).logits[:, -1].numpy()
    session = load_session(result.graph, device="cpu")
    found = session.prefill(input_ids)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_float16_goes_beside_float32_and_both_are_verified(saved: Any, tmp_path: Path) -> None:
    checkpoint, folder = saved("minimind2"), tmp_path / "artifact"
    export_onnx(request_of(checkpoint, folder, target="portable"))
    result = export_onnx(request_of(checkpoint, folder, target="portable", precision="fp16"))
    assert [graph["file"] for graph in result.manifest["graphs"]] == ["onnx/model.onnx", "onnx/model_fp16.onnx"]
    verification = verify_artifact(folder, checkpoint.path)
    assert verification
    assert [graph.file for graph in verification.graphs] == ["onnx/model.onnx", "onnx/model_fp16.onnx"]
    assert not any(graph.changed for graph in verification.graphs)


def test_one_changed_weight_fails_the_verification(saved: Any, tmp_path: Path) -> None:
    checkpoint, folder = saved("minimind2"), tmp_path / "artifact"
    result = export_onnx(request_of(checkpoint, folder))
    graph = onnx.load(result.graph)
    weight = next(each for each in graph.graph.initializer if "layers.1.mlp.up_proj" in each.name)
    numbers = np.frombuffer(weight.raw_data, np.float32).copy()
    numbers[17] += 0.5
    weight.raw_data = numbers.tobytes()
    onnx.save(graph, result.graph)

    verification = verify_artifact(folder, checkpoint.path)

    assert not verification
    assert verification.graphs[0].changed
    assert "was changed after the export" in " ".join(verification.notes)


def test_another_checkpoint_fails_the_verification(saved: Any, tmp_path: Path) -> None:
    checkpoint, folder = saved("minimind2"), tmp_path / "artifact"
    export_onnx(request_of(checkpoint, folder))
    state = torch.load(checkpoint.path, weights_only=True)
    state["model.layers.0.self_attn.q_proj.weight"][0] += 1
    torch.save(state, tmp_path / "full_sft_64.pth")
    assert not verify_artifact(folder, tmp_path / "full_sft_64.pth")
    with pytest.raises(ExportError, match="--against"):
        verify_artifact(folder)  # the file beside it has the name, and another digest


def test_parity_that_fails_leaves_nothing(saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minimind_edge.export import graph

    def forgetful(model: MiniMindForCausalLM, *args: Any, **options: Any) -> Any:
        with torch.no_grad():
            model.model.layers[0].mlp.down_proj.weight[5, 7] += 1
        return built(model, *args, **options)

    def saving(ir_model: Any, path: Path) -> None:
        stored(ir_model, path)
        with torch.no_grad():  # the model is itself again once its changed weights are in the file
            models[0].model.layers[0].mlp.down_proj.weight[5, 7] -= 1

    models: list[MiniMindForCausalLM] = []
    built, stored = graph.build_graph, graph.save_graph

    def remembering(model: MiniMindForCausalLM, *args: Any, **options: Any) -> Any:
        models.append(model)
        return forgetful(model, *args, **options)

    monkeypatch.setattr(graph, "build_graph", remembering)
    monkeypatch.setattr(graph, "save_graph", saving)
    with pytest.raises(ParityError, match="nothing was written"):
        export_onnx(request_of(saved("minimind2"), tmp_path / "artifact"))
    assert list(tmp_path.iterdir()) == []


def test_yarn_can_be_turned_on_and_off(saved: Any, tmp_path: Path) -> None:
    plain = export_onnx(request_of(saved("minimind2"), tmp_path / "on", yarn=True))
    assert plain.manifest["config"]["inference_rope_scaling"] is True
    assert json.loads((tmp_path / "on" / "config.json").read_text())["rope_scaling"]["rope_type"] == "yarn"
    assert verify_artifact(tmp_path / "on", saved("minimind2").path)
    stretched = export_onnx(request_of(saved("minimind2 yarn"), tmp_path / "off", yarn=False))
    assert stretched.manifest["config"]["inference_rope_scaling"] is False


def test_code_that_was_not_read_is_told_in_output_manifest_and_verification(saved: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    torch.save(saved("minimind3").model.state_dict(), folder / "mine.pth")
    (folder / "config.json").write_text(json.dumps({"model_type": "minimind", "auto_map": {"AutoModel": "x.Y"}}))
    (folder / "model_minimind.py").write_text("raise SystemExit\n")
    result = export_onnx(ExportRequest(checkpoint=folder, output=tmp_path / "artifact"))
    (note,) = result.manifest["checkpoint"]["notes"]
    assert "mine has code of its own (auto_map in its config, model_minimind.py), which was not read" in note
    assert str(tmp_path) not in note
    assert note in result.notes
    assert json.loads((tmp_path / "artifact" / "manifest.json").read_text())["checkpoint"]["notes"] == [note]
    verification = verify_artifact(tmp_path / "artifact", folder)
    assert note in verification.notes
    for report in (result.parity, verification.graphs[0].report):
        assert report.reference == (
            "minimind-edge's own model, not the checkpoint's own code (auto_map in its config, model_minimind.py), "
            "which was not read"
        )
        assert report.to_json()["reference"] == report.reference


def test_a_peft_folder_is_merged_and_found_again(saved: Any, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
    pair = {f"{name}A.weight": torch.randn(8, 64) * 0.3, f"{name}B.weight": torch.randn(64, 8) * 0.3}
    torch.save(pair, adapter / "adapter_model.bin")
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16}))
    checkpoint = saved("minimind2")
    merged = export_onnx(request_of(checkpoint, tmp_path / "merged", lora=(adapter,)))
    assert merged.manifest["checkpoint"]["lora"][0]["file"] == "adapter"
    assert verify_artifact(tmp_path / "merged", checkpoint.path)


def test_an_adapter_is_merged_and_found_again(saved: Any, tmp_path: Path) -> None:
    checkpoint = saved("minimind2")
    adapter = tmp_path / "lora_tone_64.pth"
    pair = {"A": torch.randn(8, 64) * 0.3, "B": torch.randn(64, 8) * 0.3}
    name = "model.layers.1.self_attn.q_proj.lora"
    torch.save({f"{name}.{key}.weight": weight for key, weight in pair.items()}, adapter)
    merged = export_onnx(request_of(checkpoint, tmp_path / "merged", lora=(adapter,)))
    assert merged.manifest["checkpoint"]["lora"][0]["file"] == "lora_tone_64.pth"
    assert verify_artifact(tmp_path / "merged", checkpoint.path)
    adapter.unlink()
    with pytest.raises(ExportError, match="lora_tone_64"):
        verify_artifact(tmp_path / "merged", checkpoint.path)


def test_a_context_beyond_the_models_is_refused(saved: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="max_position_embeddings"):
        export_onnx(request_of(saved("minimind2"), tmp_path / "artifact", max_length=4097))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["portable", "ort"])
@pytest.mark.parametrize("kind", ["minimind2", "minimind2 moe", "minimind3", "minimind3 moe"])
def test_two_hundred_greedy_tokens_are_eagers(saved: Any, kind: str, target: str, tmp_path: Path) -> None:
    checkpoint, folder = saved(kind), tmp_path / "artifact"
    export_onnx(request_of(checkpoint, folder, target=target, verify=False))
    (graph,) = verify_artifact(folder, checkpoint.path).graphs
    assert graph.report, graph.report.failures
    assert graph.report.greedy == (200, 200)
    equal, compared = graph.report.experts
    assert equal == compared
    assert (compared > 0) == ("moe" in kind)
