"""The values that options choose from."""

from __future__ import annotations

from enum import Enum


class Target(str, Enum):
    """What a graph is made for."""

    PORTABLE = "portable"
    ORT = "ort"
    TENSORRT = "tensorrt"


class Precision(str, Enum):
    """How a graph's weights are stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class Backend(str, Enum):
    """What builds a plan."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    RTX = "rtx"


class KVCacheType(str, Enum):
    """The type of the keys and values that a graph of target ort caches."""

    FLOAT = "float"
    INT8 = "int8"


class Device(str, Enum):
    """Where a graph runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    RTX = "rtx"


class ThinkDisplay(str, Enum):
    """What happens to the part of an answer between think tags."""

    DIM = "dim"
    SHOW = "show"
    HIDE = "hide"
