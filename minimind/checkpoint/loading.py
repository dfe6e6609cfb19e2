"""Loading a checkpoint of any MiniMind generation into the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import torch

from ..causal_lm import MiniMindForCausalLM
from ..errors import CheckpointError
from .adapter import MergedAdapter, merge_adapter, read_adapter, split_adapter
from .assembly import assemble
from .config_source import ConfigLike, gather_config
from .foreign_code import foreign_code_note
from .generation import MINIMIND2
from .inference import infer_architecture
from .names import clean_names, to_model_names
from .peft_adapter import MARK as PEFT_MARK
from .report import CheckpointReport
from .resolution import Resolution, resolve_config
from .source import WeightSource, find_source
from .tensor_file import read_tensors

PathLikeStr: TypeAlias = str | PathLike[str]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model with the report on its checkpoint."""

    model: MiniMindForCausalLM
    report: CheckpointReport


def load_checkpoint(
    path: PathLikeStr,
    config: ConfigLike | None = None,
    moe: bool | None = None,
    lora: PathLikeStr | Sequence[PathLikeStr] | None = None,
    report: Callable[[str], object] | None = None,
) -> MiniMindForCausalLM:
    """Load a checkpoint of any MiniMind generation as a float32 model in eval mode.

    Args:
        path: A `.pth`, `.safetensors`, shard index, or a folder with one of them.
        config: Fields to override, in any generation's names: a `MiniMindConfig`, a dict, or a JSON file.
        moe: Require a mixture of experts (True) or a dense model (False); None accepts both.
        lora: LoRA files or PEFT folders to merge.
        report: Called with each line of the report; for example `print`.

    Raises:
        CheckpointError: The checkpoint cannot be read, is not a MiniMind, or is not of the kind that `moe` requires.
        ConfigError: The configuration has an unknown key, or contradicts the tensors.
    """
    loaded = read_checkpoint(path, config, moe, lora)
    if report is not None:
        for line in loaded.report.lines():
            report(line)
    return loaded.model


def read_checkpoint(
    path: PathLikeStr,
    config: ConfigLike | None = None,
    moe: bool | None = None,
    lora: PathLikeStr | Sequence[PathLikeStr] | None = None,
    yarn: bool | None = None,
) -> LoadedCheckpoint:
    """Load a checkpoint as `load_checkpoint` does, with a report on what was inferred, given and assumed.

    Args:
        path: A `.pth`, `.safetensors`, shard index, or a folder with one of them.
        config: Fields to override, in any generation's names: a `MiniMindConfig`, a dict, or a JSON file.
        moe: Require a mixture of experts (True) or a dense model (False); None accepts both.
        lora: LoRA files or PEFT folders to merge.
        yarn: Turn YaRN on or off; None keeps the configuration's choice.

    Raises:
        CheckpointError: The checkpoint cannot be read, is not a MiniMind, or is not of the kind that `moe` requires.
        ConfigError: The configuration has an unknown key, or contradicts the tensors.
    """
    source = find_source(Path(path))
    given, code = gather_config(config, source)
    weights, merged = _merged_weights(source, _paths(lora))
    named = to_model_names(weights)
    weights.clear()
    inference = infer_architecture(named)
    _require_kind(source, moe, inference.fields["use_moe"])
    resolution = resolve_config(inference, given, named.legacy)
    model = assemble(resolution.config, named)
    if yarn is not None:
        model.set_rope_scaling(yarn)
    report = CheckpointReport(
        generation=resolution.generation,
        files=source.files,
        sha256=source.sha256(),
        inferred=resolution.inferred,
        given=resolution.given,
        assumed=resolution.assumed,
        lora=merged,
        tokenizer=source.tokenizer,
        notes=(
            *given.notes,
            *resolution.notes,
            *foreign_code_note(source.path.resolve().name, code, resolution.generation),
            *(_yarn_note(resolution) if yarn else ()),
        ),
        unread_code=code,
    )
    return LoadedCheckpoint(model, report)


def _yarn_note(resolution: Resolution) -> tuple[str, ...]:
    """The note on which of upstream's two YaRN formulas is used, for the generation that had both."""
    if resolution.generation != MINIMIND2.name or resolution.config.rope_scaling_parameters["type"] != "yarn":
        return ()
    return (
        "note: YaRN as upstream has it since 2025-12-01 (factor 16). A MiniMind2 that was evaluated with the code of "
        '2025-10-17 to 2025-12-01 (factor 4) takes --config FILE with {"rope_scaling": {"type": "yarn-2025-10"}}',
    )


def _merged_weights(
    source: WeightSource, adapters: Sequence[Path]
) -> tuple[dict[str, torch.Tensor], tuple[MergedAdapter, ...]]:
    """The checkpoint's tensors by their clean names, and the adapters, its own and the given ones, merged into them."""
    tensors = clean_names(_read_all(source))
    worn = next((name for name in tensors if PEFT_MARK.search(name)), None)
    if worn is not None:
        raise CheckpointError(
            f"{source.path}: tensor {worn} is PEFT's, without the adapter's scale; save merge_and_unload() of the "
            "model, or pass the base checkpoint here and the adapter's folder as --lora"
        )
    weights, own = split_adapter(tensors, source.files[0])
    if own and not weights:
        raise CheckpointError(
            f"{source.path}: holds LoRA tensors only; pass the base checkpoint here and this file as LoRA (--lora)"
        )
    merged = [merge_adapter(weights, own, source.files[0])] if own else []
    for path in adapters:
        pairs, file = read_adapter(path)
        merged.append(merge_adapter(weights, pairs, file, named=path))
    return weights, tuple(merged)


def _read_all(source: WeightSource) -> dict[str, torch.Tensor]:
    if source.shard_of is None:
        return read_tensors(source.files[0])
    tensors: dict[str, torch.Tensor] = {}
    for shard in source.files:
        found = read_tensors(shard)
        for name, file in source.shard_of.items():
            if file != shard.name:
                continue
            if name not in found:
                raise CheckpointError(f"missing tensor {name}: the index promises it in {shard}")
            tensors[name] = found[name]
    return tensors


def _require_kind(source: WeightSource, moe: bool | None, found: bool) -> None:
    if moe is None or moe == found:
        return
    if moe:
        raise CheckpointError(
            f"{source.path}: asked for a mixture of experts, but this checkpoint is dense (it has no mlp.gate.weight); "
            "leave --moe out or pass an MoE checkpoint"
        )
    raise CheckpointError(
        f"{source.path}: asked for a dense model, but this checkpoint is a mixture of experts; pass a dense checkpoint"
    )


def _paths(lora: PathLikeStr | Sequence[PathLikeStr] | None) -> tuple[Path, ...]:
    if lora is None:
        return ()
    return (Path(lora),) if isinstance(lora, (str, PathLike)) else tuple(Path(file) for file in lora)
