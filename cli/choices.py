"""The values of options that choose from a list."""

from __future__ import annotations

from enum import Enum


class Target(str, Enum):
    """The target that a graph is made for."""

    PORTABLE = "portable"
    ORT = "ort"
    TENSORRT = "tensorrt"


class Precision(str, Enum):
    """The precision in which a graph's weights are stored."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"


class Backend(str, Enum):
    """The backend that builds a plan."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    RTX = "rtx"


class KVCacheType(str, Enum):
    """The type of the numbers in the KV cache of a graph of target ort."""

    FLOAT = "float"
    INT8 = "int8"


class HeadPrecision(str, Enum):
    """The precision of the head, the last product, in a graph of precision int4."""

    INT8 = "int8"
    INT4 = "int4"


class Int8Block(str, Enum):
    """The number of weights that share a scale in a graph of precision int8."""

    OF_128 = "128"
    OF_256 = "256"


class Device(str, Enum):
    """The device that runs a graph."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    RTX = "rtx"


class ThinkDisplay(str, Enum):
    """The display of the part of an answer between think tags."""

    DIM = "dim"
    SHOW = "show"
    HIDE = "hide"


class PlatformName(str, Enum):
    """The kind of machine that a bundle is made for."""

    LINUX_AARCH64 = "linux-aarch64"
    LINUX_X86_64 = "linux-x86_64"
    MACOS_ARM64 = "macos-arm64"
    WINDOWS_AMD64 = "windows-amd64"
