from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from minimind_edge.cli.export_onnx import show_result
from minimind_edge.export import ExportResult


@pytest.mark.parametrize(
    ("precisions", "words"),
    [
        (["bf16"], ["minimind-export", "engine", "my model", "-o", "my model/model.plan"]),
        (["fp32", "bf16"], ["minimind-run", "--engine", "my model", "Who are you?"]),
    ],
)
def test_the_line_to_try_is_one_that_works(precisions, words, capsys):
    manifest = {"graphs": [{"precision": precision} for precision in precisions]}
    show_result(ExportResult(Path("my model"), Path("my model/onnx/model.onnx"), (), True, True, manifest))
    assert shlex.split(capsys.readouterr().out.splitlines()[-1]) == words


def test_pretrained_weights_are_asked_to_go_on(capsys):
    result = ExportResult(Path("m"), Path("m/onnx/model.onnx"), (), True, True, {"graphs": [{"precision": "fp32"}]})
    show_result(replace(result, is_pretrained_only=True))
    assert shlex.split(capsys.readouterr().out.splitlines()[-1])[3:] == ["--raw", "Once upon a time"]
