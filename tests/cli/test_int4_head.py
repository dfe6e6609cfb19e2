"""`--head int4`: where it is refused, and what the manifest says where it is not."""

from __future__ import annotations

import pytest

from minimind_edge.export import pipeline
from minimind_edge.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int8"], "--head int4 is for --precision int4; leave it out with int8"),
        ([], "--head int4 is for --precision int4; leave it out with fp32"),
        (
            ["--precision", "int4", "--target", "portable"],
            "--head int4 is for --target ort; leave it out with portable",
        ),
        (
            ["--precision", "int4", "--target", "tensorrt"],
            "--head int4 is for --target ort; leave it out with tensorrt",
        ),
    ],
)
def test_it_is_refused_where_there_is_none(refused_here, checkpoint, tmp_path, options, said):
    assert said in refused_here(2, "onnx", checkpoint, "-o", tmp_path / "x", "--head", "int4", *options)
    assert not (tmp_path / "x").exists()


def test_the_command_asks_the_export_for_it(export_in_process, checkpoint, tmp_path, monkeypatch):
    heads = []

    def asked(request, progress=None):
        heads.append(request.quantization.int4_head)
        raise UsageError("asked")

    monkeypatch.setattr(pipeline, "export_onnx", asked)
    for options in ([], ["--head", "int8"], ["--head", "int4"]):
        words = ("onnx", checkpoint, "-o", tmp_path / "x", "--precision", "int4", *options)
        assert export_in_process(*words) == 2
    assert heads == [False, False, True]
