"""A changed model, built by its own class and filled with a checkpoint's tensors."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from minimind_edge.minimind.checkpoint.json_file import read_json_object
from minimind_edge.minimind.checkpoint.names import clean_names
from minimind_edge.minimind.checkpoint.source import WeightSource, find_source
from minimind_edge.minimind.checkpoint.tensor_file import read_tensors

from ..errors import ExportError
from .code import OwnCode

NOT_ARGUMENTS = frozenset({"model_type", "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype"})
"""The keys of a `config.json` that are not fields of the model's config."""

TABLES = re.compile(r"(^|\.)(freqs_cos|freqs_sin|pos_cis|inv_freq|cos_cached|sin_cached)$")
"""The names of tensors that a model computes by itself, and that some checkpoints hold nevertheless."""

SHOWN = 3


@dataclass(frozen=True)
class BuiltModel:
    """A changed model, and the checkpoint that its weights came from.

    Attributes:
        model: The model in eval mode, float32 on the CPU.
        name: The name of the checkpoint's file, or of a sharded checkpoint's folder.
        sha256: The hex digest of the checkpoint.
    """

    model: nn.Module
    name: str
    sha256: str


def build_model(code: OwnCode, checkpoint: Path, config: Path | None = None) -> BuiltModel:
    """Build a model by its own code; from the checkpoint only tensors and JSON are read.

    Args:
        code: The class or function. It is called with an object of the class's `config_class`, or of the type that its
            first parameter is annotated with; without an argument where it needs none.
        checkpoint: The weight file or folder.
        config: A JSON file with the config's fields; None takes the one next to the weights.

    Raises:
        ExportError: The model cannot be built, or the checkpoint's tensors do not fit it.
        MiniMindError: The checkpoint cannot be read.
    """
    source = find_source(checkpoint)
    tensors = clean_names({name: tensor for file in source.files for name, tensor in read_tensors(file).items()})
    given = _given(source, config)
    try:
        model = _built(code, given, tensors)
    except ExportError:
        raise
    except Exception as error:  # the owner's code may raise anything, and the owner has to read it
        raise ExportError(f"{code} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ExportError(f"{code} gives a {type(model).__name__}, expected a torch.nn.Module")
    _load(model, tensors, code)
    first = source.files[0]
    name = first.name if len(source.files) == 1 else first.resolve().parent.name
    return BuiltModel(model.float().eval(), name, source.sha256())


def _given(source: WeightSource, config: Path | None) -> dict[str, Any]:
    """The config's fields from a JSON file."""
    first = source.files[0]
    nearby = [first.with_suffix(".json"), first.parent / "config.json"]
    file = config or next((path for path in nearby if path.is_file()), None)
    if file is None:
        return {}
    try:
        content = read_json_object(file)
    except ValueError as error:
        raise ExportError(f"{file}: {error}") from error
    return {name: value for name, value in content.items() if name not in NOT_ARGUMENTS}


def _built(code: OwnCode, given: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    config_class = _config_class(code)
    if config_class is None:
        return code.factory()
    fields = _seen(tensors) | dict(given)
    config = _config(config_class, fields)
    return code.factory(_config(config_class, fields | _heads(config, fields, tensors)))


def _config_class(code: OwnCode) -> Callable[..., Any] | None:
    """The class of the model's config; None where the model takes no config."""
    own = getattr(code.factory, "config_class", None)
    if own is not None:
        return own  # type: ignore[no-any-return]
    parameters = [
        one
        for one in inspect.signature(code.factory).parameters.values()
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    if not parameters:
        return None
    call = code.factory.__init__ if isinstance(code.factory, type) else code.factory  # type: ignore[misc]
    kind = typing.get_type_hints(call).get(parameters[0].name)
    if isinstance(kind, type):
        return kind
    if all(one.default is not one.empty for one in parameters):
        return None
    raise ExportError(
        f"{code} takes {parameters[0].name!r}, and nothing says of which type; annotate it, set config_class, or name "
        "a function that takes nothing and returns the model"
    )


def _config(config_class: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """A config of the fields that its class accepts."""
    parameters = inspect.signature(config_class).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return config_class(**fields)
    names = {one.name for one in parameters}
    return config_class(**{name: value for name, value in fields.items() if name in names})


def _seen(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The fields that tensor names and shapes determine, under the names of MiniMind's generations."""
    fields: dict[str, Any] = {}
    layers = [int(found[1]) for name in tensors if (found := re.search(r"(?:^|\.)layers\.(\d+)\.", name))]
    if layers:
        fields["num_hidden_layers"] = 1 + max(layers)
    for name, tensor in tensors.items():
        if name.endswith("embed_tokens.weight"):
            fields["vocab_size"], fields["hidden_size"] = tensor.shape
        elif name.endswith("layers.0.mlp.gate_proj.weight"):
            fields["intermediate_size"] = len(tensor)
        elif name.endswith("layers.0.mlp.experts.0.gate_proj.weight"):
            fields |= {"intermediate_size": len(tensor), "moe_intermediate_size": len(tensor)}
        elif name.endswith("layers.0.self_attn.q_norm.weight"):
            fields["head_dim"] = len(tensor)
    experts = {found[1] for name in tensors if (found := re.search(r"layers\.0\.mlp\.experts\.(\d+)\.", name))}
    fields["use_moe"] = bool(experts)
    if experts:
        shared = {found[1] for name in tensors if (found := re.search(r"shared_experts\.(\d+)\.", name))}
        fields |= {"num_experts": len(experts), "n_routed_experts": len(experts), "n_shared_experts": len(shared)}
    return fields


def _heads(config: Any, fields: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The numbers of key heads, and of query heads where their width is known, that the config does not give."""
    rows = {
        part: len(tensor)
        for part in ("q", "k")
        for name, tensor in tensors.items()
        if name.endswith(f"layers.0.self_attn.{part}_proj.weight")
    }
    heads = fields.get("num_attention_heads", getattr(config, "num_attention_heads", None))
    if len(rows) < 2 or not isinstance(heads, int):
        return {}
    width = fields.get("head_dim") or rows["q"] // heads
    counted = {"num_attention_heads": rows["q"] // width, "num_key_value_heads": rows["k"] // width}
    return {name: value for name, value in counted.items() if name not in fields}


def _load(model: nn.Module, tensors: Mapping[str, torch.Tensor], code: OwnCode) -> None:
    """Load the tensors into the model.

    Raises:
        ExportError: A tensor is missing, surplus or of another shape.
    """
    own = model.state_dict()
    surplus = [name for name in tensors if name not in own and not TABLES.search(name)]
    wrong = [name for name, tensor in tensors.items() if name in own and tensor.shape != own[name].shape]
    if wrong:
        raise ExportError(
            f"tensor {wrong[0]} is {list(tensors[wrong[0]].shape)}, but {code} has {list(own[wrong[0]].shape)}; "
            "give the model's sizes in a JSON file by --config"
        )
    filled = {own[name].data_ptr() for name in tensors if name in own}
    missing = [name for name, tensor in own.items() if name not in tensors and tensor.data_ptr() not in filled]
    for kind, names in (("lacks", missing), ("has", surplus)):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise ExportError(
                f"the checkpoint {kind} {', '.join(names[:SHOWN])}{more}, which {code} "
                f"{'needs' if kind == 'lacks' else 'does not know'}; it is another model's"
            )
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items() if name in own}, strict=False)
