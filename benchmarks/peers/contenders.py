"""The contenders of the benchmark: every peer with its builds."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

WORKERS = Path(__file__).resolve().parent / "workers"

TORCH = ("torch==2.13.0", "numpy==2.4.6", "safetensors==0.8.0")

HTTP = ("starlette==1.10.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")
"""The packages of this project's server, with which the benchmark of servers serves a peer that has none."""


@dataclass(frozen=True)
class Peer:
    """A program that runs language models.

    Attributes:
        name: The peer's name in tables.
        worker: The file of the peer's worker in `workers/`.
        builds: The names of the peer's builds, each with the precision of this project that it is compared with.
        packages: The packages of the peer's environment; none for this project's own environment.
        unwanted: Dependencies of the packages that are uninstalled again.
        variables: The environment variables for the installation of the packages.
        builder: A program in `workers/` that completes the environment with what it builds from source.
        source: The environment variable that names the folder of the source for `builder`.
        models_of: The name of the peer whose converted models this one runs, if it has none of its own.
    """

    name: str
    worker: str
    builds: Mapping[str, str]
    packages: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    builder: str = ""
    source: str = ""
    models_of: str = ""


@dataclass(frozen=True)
class Contender:
    """One build of one peer: a row of every table."""

    peer: Peer
    build: str

    @property
    def name(self) -> str:
        """The names of peer and build."""
        return f"{self.peer.name} {self.build}"

    @property
    def precision(self) -> str:
        """The precision of this project that the build is compared with."""
        return self.peer.builds[self.build]

    @property
    def worker(self) -> Path:
        """The program that measures the build."""
        return WORKERS / self.peer.worker


EDGE = Peer("minimind-edge", "edge.py", {"fp32": "fp32", "int8": "int8", "int4": "int4"})
"""This project with ONNX Runtime's own operators, as its wheel runs."""

EDGE_NATIVE = Peer("minimind-edge native", "edge_native.py", EDGE.builds, models_of=EDGE.name)
"""The same artifacts, run by this project's native operators."""

BARE_LOOP = Peer("bare onnxruntime", "bare_loop.py", {"fp32": "fp32", "int4": "int4"}, models_of=EDGE.name)
"""The shortest loop around onnxruntime; it runs this project's graphs and has no models of its own."""

EAGER = Peer("eager PyTorch", "eager.py", {"fp32": "fp32"})
"""Eager PyTorch on the checkpoint itself: the reference of all other contenders."""

PEERS = {
    peer.name: peer
    for peer in (
        EDGE,
        EDGE_NATIVE,
        BARE_LOOP,
        Peer(
            "onnxruntime-genai",
            "genai.py",
            {"fp32": "fp32", "int8": "int8", "int4": "int4", "int4-mixed": "int4"},
            (
                "onnxruntime-genai==0.18.0",
                "onnxruntime==1.32.0",
                "onnx==1.23.2",
                "onnx-ir==1.1.0",
                "transformers==5.23.0",
                *TORCH,
            ),
        ),
        Peer(
            "llama.cpp",
            "llamacpp.py",
            {"F32": "fp32", "Q8_0": "int8", "Q4_0": "int4", "Q4_K_M": "int4"},
            ("llama-cpp-python==0.3.36", "gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0"),
            # Built for this machine's own instructions, as a user who wants speed does, without pictures and sound.
            variables={
                "CMAKE_ARGS": "-DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAVA_BUILD=OFF",
                "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1),
            },
        ),
        Peer(
            "OpenVINO GenAI",
            "openvino_pipeline.py",
            {"int8": "int8", "int4": "int4"},
            ("openvino-genai==2026.4.1.0", "optimum-intel[openvino]==2.2.0", *TORCH, *HTTP),
            unwanted=("torchvision",),  # it is for another build of torch, and breaks every import of transformers
        ),
        Peer(
            "ExecuTorch",
            "executorch_module.py",
            {"fp32": "fp32", "int8": "int8", "8da4w": "int4"},
            ("executorch==1.5.1", *TORCH),
        ),
        Peer(
            "MNN",
            "mnn_llm.py",
            {"int8": "int8", "int4": "int4"},
            ("mnn==3.6.1", "llmexport==0.0.5", "transformers==5.23.0", "onnx==1.23.2", *TORCH),
        ),
        Peer(
            "MNN native",
            "mnn_llm.py",
            {"int8": "int8", "int4": "int4"},
            ("numpy==2.4.6",),
            builder="build_mnn.py",
            source="MNN_SOURCE",
            models_of="MNN",
        ),
        Peer(
            "LiteRT-LM",
            "litert_lm_engine.py",
            {"fp32": "fp32", "int8": "int8", "int4": "int4"},
            ("litert-lm-api==0.18.1", "litert-torch==0.10.0", *TORCH),
        ),
        Peer("optimum", "optimum_onnx.py", {"fp32": "fp32"}, ("optimum-onnx[onnxruntime]==0.1.0", *TORCH)),
        EAGER,
        Peer("transformers", "transformers_eager.py", {"fp32": "fp32", "bf16": "fp32"}),
    )
}


def contenders(names: list[str], precisions: Collection[str] = tuple(EDGE.builds)) -> list[Contender]:
    """The builds of the named peers that are compared with the named precisions of this project."""
    everyone = [Contender(PEERS[name], build) for name in names for build in PEERS[name].builds]
    return [contender for contender in everyone if contender.precision in precisions]
