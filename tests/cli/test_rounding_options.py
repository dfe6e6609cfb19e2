"""`--head int4` and `--int8-block 256`: where they are refused, and what the command asks of the export."""

from __future__ import annotations

import pytest

from minimind_edge.export import pipeline
from minimind_edge.runtime.errors import UsageError

HEAD, BLOCK = ("--head", "int4"), ("--int8-block", "256")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((*HEAD, "--precision", "int8"), "--head int4 is for --precision int4; leave it out with int8"),
        (HEAD, "--head int4 is for --precision int4; leave it out with fp32"),
        ((*HEAD, "--precision", "int4", "--target", "portable"), "is for --target ort; leave it out with portable"),
        ((*HEAD, "--precision", "int4", "--target", "tensorrt"), "is for --target ort; leave it out with tensorrt"),
        ((*BLOCK, "--precision", "int4"), "--int8-block 256 is for --precision int8; leave it out with int4"),
        ((*BLOCK, "--precision", "int8", "--target", "portable"), "is for --target ort; leave it out with portable"),
        (("--int8-block", "512", "--precision", "int8"), "512"),
    ],
)
def test_they_are_refused_where_there_is_none(refused_here, checkpoint, tmp_path, options, said):
    assert said in refused_here(2, "onnx", checkpoint, "-o", tmp_path / "x", *options)
    assert not (tmp_path / "x").exists()


def test_the_command_asks_the_export_for_them(export_in_process, checkpoint, tmp_path, monkeypatch):
    asked_for = []

    def asked(request, progress=None):
        asked_for.append((request.quantization.int4_head, request.quantization.int8_block))
        raise UsageError("asked")

    monkeypatch.setattr(pipeline, "export_onnx", asked)
    for options in ((), ("--head", "int8", "--int8-block", "128"), HEAD, BLOCK):
        assert export_in_process("onnx", checkpoint, "-o", tmp_path / "x", *options) == 2
    assert asked_for == [(False, 128), (False, 128), (True, 128), (False, 256)]
