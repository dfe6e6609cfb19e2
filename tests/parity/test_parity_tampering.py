"""A candidate that is wrong in one thing fails, and the report says where; an exact copy passes.

The candidates are PyTorch models with the runner's interface: what is tested is the comparison, not a graph.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from minimind_edge.export.errors import ExportError
from minimind_edge.export.parity import (
    EagerOutput,
    ModelShape,
    ParityReport,
    StepOutput,
    Suite,
    compare_runners,
    tolerance_of,
)
from minimind_edge.export.parity.case import Chunk
from minimind_edge.minimind import MiniMindConfig, MiniMindForCausalLM, MoEGate

MAX_LENGTH = 32
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "intermediate_size": 48,
    "max_position_embeddings": MAX_LENGTH,
}

Change = Callable[[Chunk], Chunk]


class TorchRunner:
    """A PyTorch model as a candidate.

    Args:
        model: What answers.
        change: What to do to each chunk before it is run.
    """

    name = "torch"
    last_token_only = False
    counts_positions = False

    def __init__(self, model: MiniMindForCausalLM, change: Change = lambda chunk: chunk) -> None:
        self.model = model
        self.change = change
        self.past: tuple[tuple[torch.Tensor, torch.Tensor], ...] | None = None

    def reset(self, batch_size: int, slots: int) -> None:
        self.past = None

    def step(self, chunk: Chunk) -> StepOutput:
        chunk = self.change(chunk)
        routes: list[np.ndarray] = []
        gates = [module for module in self.model.modules() if isinstance(module, MoEGate)]
        hooks = [gate.register_forward_hook(lambda _m, _i, out: routes.append(out[0].numpy())) for gate in gates]
        with torch.inference_mode():
            output = self.model(
                input_ids=torch.tensor(chunk.input_ids),
                attention_mask=torch.tensor(chunk.attention_mask),
                position_ids=torch.tensor(chunk.position_ids),
                past_key_values=self.past,
                use_cache=True,
            )
        for hook in hooks:
            hook.remove()
        self.past = output.past_key_values
        return StepOutput(output.logits.float().numpy(), routes or None)

    def presents(self) -> list[tuple[np.ndarray, np.ndarray]]:
        assert self.past is not None
        return [(key.numpy(), value.numpy()) for key, value in self.past]


def make(**fields: object) -> MiniMindForCausalLM:
    """A model whose weights are large enough that every part of it matters."""
    torch.manual_seed(7)
    model = MiniMindForCausalLM(MiniMindConfig(**(TINY | fields))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.2)
    return model


@pytest.fixture(scope="module")
def dense() -> MiniMindForCausalLM:
    return make()


@pytest.fixture(scope="module")
def moe() -> MiniMindForCausalLM:
    return make(use_moe=True)


class OwnersModel:
    """Eager code that is not ours, as its owner's adapter gives it: without the experts that it chooses."""

    name = "my_model.py:MyMiniMind"

    def __init__(self, model: MiniMindForCausalLM) -> None:
        self.runner = TorchRunner(model)
        self.shape = dataclasses.replace(ModelShape.of(model.config), shows_experts=False)

    def run(self, chunk: Chunk) -> EagerOutput:
        if chunk.start == 0:
            self.runner.reset(1, chunk.input_ids.shape[1])
        logits = self.runner.step(chunk).logits
        return EagerOutput(logits, self.runner.presents())

    def release(self) -> None:
        del self.runner


def compared(
    model: MiniMindForCausalLM | OwnersModel,
    runner: TorchRunner,
    precision: str = "fp32",
    steps: int = 6,
    suite: Suite | None = None,
) -> ParityReport:
    suite = suite or Suite(TINY["vocab_size"], MAX_LENGTH)
    tolerance = tolerance_of(precision, TINY["num_hidden_layers"])
    return compare_runners(
        model, [lambda: runner], suite, tolerance, target="portable", precision=precision, steps=steps
    )


@pytest.mark.parametrize("fields", [{}, {"use_moe": True}, {"qk_norm": True}])
def test_an_owners_code_is_a_reference_too(fields: dict[str, object]) -> None:
    model = make(**fields)
    report = compared(OwnersModel(model), TorchRunner(copy.deepcopy(model)))
    assert report, report.failures
    assert report.greedy == (6, 6)
    assert report.experts == (0, 0)
    assert report.to_json()["reference"] == "my_model.py:MyMiniMind"
    assert ("reference", "my_model.py:MyMiniMind") in {(row.quantity, row.measured) for row in report.rows()}
    own = compared(model, TorchRunner(copy.deepcopy(model)))
    assert own.to_json()["reference"] == "minimind-edge's own model"


def test_a_graph_of_the_stock_model_is_not_its_owners_changed_one(dense: MiniMindForCausalLM) -> None:
    changed = copy.deepcopy(dense)
    for layer in changed.model.layers:
        layer.mlp.act_fn = torch.nn.GELU()
    assert compared(dense, TorchRunner(dense))
    report = compared(OwnersModel(changed), TorchRunner(dense))
    assert place(report) == 1


def place(report: ParityReport) -> object:
    assert not report
    assert report.failures
    assert all("\n" not in line for line in report.failures)
    return report.to_json()["first_departing_layer"]


def with_weight(model: MiniMindForCausalLM, name: str, change: Callable[[torch.Tensor], None]) -> TorchRunner:
    tampered = copy.deepcopy(model)
    with torch.no_grad():
        change(dict(tampered.named_parameters())[name])
    return TorchRunner(tampered)


def add_to_one(weight: torch.Tensor) -> None:
    weight.view(-1)[3] += 0.5


@pytest.mark.parametrize("fields", [{}, {"num_key_value_heads": 4}, {"use_moe": True}, {"qk_norm": True}])
def test_an_exact_copy_passes(fields: dict[str, object]) -> None:
    model = make(**fields)
    report = compared(model, TorchRunner(copy.deepcopy(model)))
    assert report, report.failures
    assert report.greedy == (6, 6)
    assert report.to_json()["first_departing_layer"] is None
    assert (report.experts[1] > 0) == model.config.use_moe


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("model.layers.0.self_attn.k_proj.weight", 0),
        ("model.layers.1.self_attn.v_proj.weight", 1),
        ("model.layers.1.input_layernorm.weight", 1),
        # What a layer does after its cache shows in the next one's.
        ("model.layers.0.self_attn.q_proj.weight", 1),
        ("model.layers.1.mlp.down_proj.weight", 2),
        ("model.layers.2.mlp.up_proj.weight", "head"),
        ("model.norm.weight", "head"),
    ],
)
def test_one_weight_fails_and_names_its_layer(dense: MiniMindForCausalLM, name: str, where: object) -> None:
    report = compared(dense, with_weight(dense, name, add_to_one))
    assert place(report) == where
    assert any("bound" in line for line in report.failures)


def test_an_embedding_fails_in_the_first_layer(dense: MiniMindForCausalLM) -> None:
    runner = with_weight(dense, "model.embed_tokens.weight", lambda weight: weight[:, 3].add_(0.5))
    assert place(compared(dense, runner)) == 0


def test_keys_alone_point_to_positions_and_k_proj(dense: MiniMindForCausalLM) -> None:
    report = compared(dense, with_weight(dense, "model.layers.1.self_attn.k_proj.weight", add_to_one))
    assert any("layer 1, keys only" in line and "RoPE" in line for line in report.failures)


def test_interleaved_rope_fails_in_the_first_keys(dense: MiniMindForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def interleaved(x: torch.Tensor) -> torch.Tensor:
        return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)

    class Interleaved(TorchRunner):
        def step(self, chunk: Chunk) -> StepOutput:
            with monkeypatch.context() as patch:
                patch.setattr("minimind_edge.minimind.rope.rotate_half", interleaved)
                return super().step(chunk)

    report = compared(dense, Interleaved(copy.deepcopy(dense)))
    assert place(report) == 0
    assert any("keys only" in line for line in report.failures)


def test_a_dropped_mask_fails_in_the_padded_cases_alone(dense: MiniMindForCausalLM) -> None:
    def unmasked(chunk: Chunk) -> Chunk:
        return dataclasses.replace(chunk, attention_mask=np.ones_like(chunk.attention_mask))

    report = compared(dense, TorchRunner(dense, unmasked))
    assert place(report) == 1
    assert any("padded" in line and "mask" in line for line in report.failures)
    wrong = {run["case"] for run in report.to_json()["runs"] if run["max_abs"] > 1e-3}
    assert wrong == {"padded left", "padded right", "padded between chunks"}


def test_positions_off_by_one_fail_though_all_logits_are_right(dense: MiniMindForCausalLM) -> None:
    def shifted(chunk: Chunk) -> Chunk:
        return dataclasses.replace(chunk, position_ids=chunk.position_ids + 1)

    report = compared(dense, TorchRunner(dense, shifted))
    assert report.max_abs < 1e-4
    assert place(report) == 0
    assert any("position_ids" in line for line in report.failures)


def test_a_past_that_is_forgotten_fails_in_chunks(dense: MiniMindForCausalLM) -> None:
    class Forgetful(TorchRunner):
        def step(self, chunk: Chunk) -> StepOutput:
            if self.past is not None:
                self.past = tuple((torch.zeros_like(key), torch.zeros_like(value)) for key, value in self.past)
            return super().step(chunk)

    report = compared(dense, Forgetful(dense))
    assert place(report) == 0
    assert all(run["max_abs"] < 1e-3 for run in report.to_json()["runs"] if run["case"].startswith("prompt"))


def test_two_experts_swapped_fail(moe: MiniMindForCausalLM) -> None:
    tampered = copy.deepcopy(moe)
    experts = tampered.model.layers[1].mlp.experts
    experts[0], experts[2] = experts[2], experts[0]
    report = compared(moe, TorchRunner(tampered))
    assert place(report) == 2
    assert "mlp" in report.summary()


def test_a_wrong_router_fails_where_it_chooses(moe: MiniMindForCausalLM) -> None:
    report = compared(
        moe, with_weight(moe, "model.layers.1.mlp.gate.weight", lambda weight: weight.copy_(weight.flip(0)))
    )
    assert place(report) == 1
    assert any("experts agree" in line for line in report.failures)
    equal, total = report.experts
    assert equal < total


def test_a_mixture_that_hides_its_experts_fails(moe: MiniMindForCausalLM) -> None:
    class Hidden(TorchRunner):
        def step(self, chunk: Chunk) -> StepOutput:
            return StepOutput(super().step(chunk).logits)

    report = compared(moe, Hidden(moe))
    assert report.failures == ("no choice of experts was compared, expected every layer's",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_fails(dense: MiniMindForCausalLM, value: float) -> None:
    class Broken(TorchRunner):
        def step(self, chunk: Chunk) -> StepOutput:
            output = super().step(chunk)
            output.logits[0, 0, 5] = value
            return output

    report = compared(dense, Broken(dense))
    assert not report
    assert any("not finite" in line for line in report.failures)
    json.dumps(report.to_json(), allow_nan=False)


def test_nan_in_a_padding_slot_of_the_cache_fails(dense: MiniMindForCausalLM) -> None:
    class Dirty(TorchRunner):
        def presents(self) -> list[tuple[np.ndarray, np.ndarray]]:
            presents = [(key.copy(), value.copy()) for key, value in super().presents()]
            if len(presents[0][0]) > 1:
                presents[2][1][-1, :, 0] = np.nan
            return presents

    report = compared(dense, Dirty(dense))
    assert any("present.2.value are not finite" in line for line in report.failures)


def test_another_shape_fails(dense: MiniMindForCausalLM) -> None:
    class Short(TorchRunner):
        def step(self, chunk: Chunk) -> StepOutput:
            return StepOutput(super().step(chunk).logits[:, :, :-1])

    report = compared(dense, Short(dense))
    assert any("logits has shape [1, 1, 96], expected [1, 1, 97]" in line for line in report.failures)


def test_an_empty_comparison_fails(dense: MiniMindForCausalLM) -> None:
    class Nothing(Suite):
        def cases(self) -> Iterator[object]:
            return iter(())

    report = compared(dense, TorchRunner(dense), steps=0, suite=Nothing(97, MAX_LENGTH))
    assert report.failures == ("nothing was compared: no token of any case, expected at least 1",)


def test_no_greedy_step_fails(dense: MiniMindForCausalLM) -> None:
    assert compared(dense, TorchRunner(dense), steps=0).failures == (
        "no greedy token was compared, expected at least 1",
    )


@pytest.mark.parametrize("fields", [{}, {"use_moe": True}])
def test_half_precision_passes_its_own_bounds_and_not_those_of_float32(fields: dict[str, object]) -> None:
    model = make(**fields)
    half = copy.deepcopy(model).half()
    assert compared(model, TorchRunner(half), "fp16"), compared(model, TorchRunner(half), "fp16").failures
    assert not compared(model, TorchRunner(half), "fp32")


def test_one_weight_fails_in_half_precision_too(dense: MiniMindForCausalLM) -> None:
    runner = with_weight(dense, "model.layers.1.self_attn.v_proj.weight", add_to_one)
    runner.model.half()
    assert place(compared(dense, runner, "fp16")) == 1


def test_the_reference_must_be_float32(dense: MiniMindForCausalLM) -> None:
    with pytest.raises(ExportError, match="float32"):
        compared(copy.deepcopy(dense).half(), TorchRunner(dense))


def test_a_model_in_training_is_compared_without_dropout_and_stays_in_training() -> None:
    model = make(dropout=0.5)
    runner = TorchRunner(copy.deepcopy(model))
    model.train()
    assert compared(model, runner)
    assert model.training


def test_unknown_precision_has_no_bounds() -> None:
    with pytest.raises(ExportError, match="int3"):
        tolerance_of("int3", 8)
