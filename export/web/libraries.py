"""The JavaScript libraries of a site: their versions, and the files of each that the page needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Library:
    """One package of npm.

    Attributes:
        name: The package's name on npm.
        version: The version that the page was written for and is tested with.
        integrity: The digest of the package's archive as npm gives it: `sha512-` and base64.
        license: The SPDX identifier of its license.
        files: The places of its files in the site's `vendor` folder, by their paths in the package.
    """

    name: str
    version: str
    integrity: str
    license: str
    files: Mapping[PurePosixPath, PurePosixPath] = field(hash=False)

    @property
    def spec(self) -> str:
        """The package and version, as npm takes them."""
        return f"{self.name}@{self.version}"


_RUNTIME = (
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.jspi.min.mjs",
    "ort-wasm-simd-threaded.jspi.mjs",
    "ort-wasm-simd-threaded.jspi.wasm",
)

LIBRARIES = (
    Library(
        name="onnxruntime-web",
        version="1.30.0",
        integrity="sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        license="MIT",
        files={PurePosixPath("dist", name): PurePosixPath("onnxruntime-web", name) for name in _RUNTIME},
    ),
    Library(
        name="@huggingface/tokenizers",
        version="0.2.0",
        integrity="sha512-LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        license="Apache-2.0",
        files={PurePosixPath("dist/tokenizers.min.mjs"): PurePosixPath("tokenizers.mjs")},
    ),
    Library(
        name="@huggingface/jinja",
        version="0.5.11",
        integrity="sha512-YzEzwM5oQf4r0vs7ifWQ+yuVR1YkAHrjERQ+a8WRsStHHp4NRBg+NesjiFc+X2AFUpRvvrIeHDS1xFy9jY/IjQ==",
        license="MIT",
        files={PurePosixPath("dist/index.js"): PurePosixPath("jinja.mjs")},
    ),
)

WEBGPU_MARK = ".jspi."
"""A part of the names of files that only a browser with WebGPU loads."""
