"""The generation config of an export: read as the runtime reads it; upstream's defaults where none is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minimind_edge.export.artifact.hf_config import generation_config, generation_notes
from minimind_edge.minimind import MiniMindConfig
from minimind_edge.runtime.artifact.generation_config import GenerationConfig
from minimind_edge.runtime.errors import ArtifactError

MINIMIND2 = MiniMindConfig(hidden_size=64)
MINIMIND3 = MiniMindConfig.minimind3(hidden_size=64)


def given(folder: Path, values: dict[str, Any]) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize(("config", "top_p"), [(MINIMIND2, 0.85), (MINIMIND3, 0.95)])
def test_without_one_each_generation_samples_as_upstreams_script_does(config: MiniMindConfig, top_p: float) -> None:
    written = generation_config(config, None, 128)
    assert (written["temperature"], written["top_k"], written["top_p"]) == (0.85, 50, top_p)


def test_what_other_tools_write_becomes_what_every_runtime_reads(tmp_path: Path) -> None:
    beside = given(tmp_path, {"top_k": -1, "temperature": "0.7", "eos_token_id": 2.0, "stop_strings": ["###"]})
    written = generation_config(MINIMIND2, beside, 128)
    assert (written["top_k"], written["temperature"], written["eos_token_id"]) == (0, 0.7, 2)
    assert GenerationConfig.parse(written).stop_strings == ("###",)


def test_what_the_runtime_would_refuse_is_refused_at_export(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r'generation_config.json: temperature is "hot": expected a number'):
        generation_config(MINIMIND2, given(tmp_path, {"temperature": "hot"}), 128)


def test_settings_that_no_runtime_here_has_are_named(tmp_path: Path) -> None:
    values = {"num_beams": 4, "typical_p": 1.0, "guidance_scale": 1.5, "suppress_tokens": [3], "length_penalty": None}
    (note,) = generation_notes(given(tmp_path, values))
    assert "num_beams, guidance_scale" in note
    assert "typical_p" not in note
    assert "suppress_tokens" not in note
    assert generation_notes(given(tmp_path, {"num_beams": 1, "min_new_tokens": 2})) == ()
