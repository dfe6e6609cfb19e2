"""Files that are no checkpoint: one line that says what is wrong, and nothing in them is executed."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minimind_edge.minimind import CheckpointError, load_checkpoint


class Touch:
    """Unpickling it creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def refusal(file: Path) -> str:
    """The message with which the file is refused: one line that names it."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    assert str(file) in message
    assert "weights_only" not in message  # torch advises to load the file unsafely; we never do
    return message


def test_nothing_there(tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "missing.pth")


def test_name_too_long(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / ("a" * 5000))
    assert len(str(caught.value)) < 700


def test_empty_folder(tmp_path):
    (tmp_path / "README.md").write_text("hello")
    assert "no weights in this folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"Hello, this is a text file.\n", "a text file"),
        ("\u4f60\u597d".encode() * 300, "a text file"),
        (b'{"weight_map": {}}', "a text file"),
        (b"GGUF\x03\x00\x00\x00" + bytes(64), "a GGUF file is not supported"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file is not supported"),
        (b"\x93NUMPY\x01\x00" + bytes(64), "a NumPy array is not supported"),
        (bytes(range(1, 256)), "neither a PyTorch nor a safetensors file"),
        (b"\x00" * 64, "neither a PyTorch nor a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "truncated, damaged or not a PyTorch checkpoint"),
        (b"\x80\x02" + bytes(100), "truncated, damaged or not a PyTorch checkpoint"),
        (b"\x80\x04", "truncated, damaged or not a PyTorch checkpoint"),
    ],
)
def test_other_content(content, expected, tmp_path):
    file = tmp_path / "a.pth"
    file.write_bytes(content)
    assert expected in refusal(file)


def test_a_checkpoint_of_torch_that_is_named_as_safetensors(make_state, save):
    assert "truncated, damaged or not a PyTorch checkpoint" in refusal(save(make_state(), "a.safetensors"))


def test_onnx_graph(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"\x08\x08\x12\x07pytorch")
    assert "an ONNX graph is not supported" in refusal(file)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_torch_file(share, make_state, save):
    file = save(make_state())
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert "truncated" in refusal(file)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_truncated_safetensors(share, make_state, tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(make_state(), file)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert "truncated or damaged safetensors" in refusal(file)


@pytest.mark.parametrize("wrapped", [False, True])
def test_malicious_torch_file_is_not_executed(wrapped, tmp_path, save):
    trap = tmp_path / "touched"
    file = save({"model": Touch(trap), "optimizer": {}} if wrapped else {"model.norm.weight": Touch(trap)})
    message = refusal(file)
    assert "refused" in message
    assert "system" in message
    assert not trap.exists()


def test_malicious_plain_pickle_is_not_executed(tmp_path):
    trap, file = tmp_path / "touched", tmp_path / "a.pth"
    file.write_bytes(pickle.dumps({"model.norm.weight": Touch(trap)}, protocol=2))
    assert "a.pth" in refusal(file)
    assert not trap.exists()


def test_malicious_old_format_is_not_executed(tmp_path):
    trap, file = tmp_path / "touched", tmp_path / "a.pth"
    torch.save({"a": Touch(trap)}, file, _use_new_zipfile_serialization=False)
    assert "refused" in refusal(file)
    assert not trap.exists()


def test_pickled_module_is_refused(save):
    assert "would run torch.nn" in refusal(save(torch.nn.Linear(2, 2)))


def test_other_zip_archive(tmp_path):
    file = tmp_path / "a.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "not a PyTorch checkpoint" in refusal(file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "an empty dict"),
        ([torch.ones(2)], "a value of type list"),
        (torch.ones(2), "a value of type Tensor"),
        (7, "a value of type int"),
        ({"a": 1}, "entry 'a' is a value of type int"),
        ({"a": [1]}, "entry 'a' is a value of type list"),
        ({3: torch.ones(2)}, "entry 3"),
        (OrderedDict(model={}, optimizer={}), "an empty dict"),
        ({"model": {"a": "text"}, "optimizer": {}}, "entry 'a' is a value of type str"),
    ],
)
def test_no_state_dict(content, expected, save):
    message = refusal(save(content))
    assert expected in message
    assert "expected a state dict of tensors" in message


def test_damaged_pickles_never_escape_as_another_error(make_state, tmp_path):
    """Bytes of the pickle inside the archive are changed one at a time; each is loaded or refused."""
    buffer = io.BytesIO()
    torch.save(
        {"model.embed_tokens.weight": torch.ones(4, 4), "b": torch.ones(2)},
        buffer,
        _use_new_zipfile_serialization=False,
    )
    content = buffer.getvalue()
    generator = torch.Generator().manual_seed(0)
    for number in range(150):
        position = int(torch.randint(len(content), (), generator=generator))
        value = int(torch.randint(256, (), generator=generator))
        file = tmp_path / f"{number}.pth"
        file.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(file)


@pytest.mark.parametrize("pickled", [b"\x80\x02J\x01", b"\x80\x02X\x05", b"\x80\x02M", b"\x80\x02G\x00\x00"])
def test_a_pickle_that_ends_within_a_number(tmp_path, pickled):
    (tmp_path / "model.pth").write_bytes(pickled)
    with pytest.raises(CheckpointError, match=r"truncated, damaged or not a PyTorch checkpoint"):
        load_checkpoint(tmp_path / "model.pth")
