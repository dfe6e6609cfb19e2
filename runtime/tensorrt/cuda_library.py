"""The CUDA driver's own library, by ctypes.

The driver brings it, so that a machine which can run a plan at all has it; the twenty calls that are needed are fewer
lines than a package to bind them would be to install, and asking them is safe where TensorRT itself would crash.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from ..errors import MissingError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

NO_DRIVER = (
    f"no NVIDIA driver here ({LIBRARY} does not load): plans run on NVIDIA GPUs only; install the driver, or run the "
    ".onnx graph of the same model"
)

NO_GPU = "the NVIDIA driver finds no GPU: plans run on NVIDIA GPUs only; see what `nvidia-smi` says"

NO_DEVICE = 100
OUT_OF_MEMORY = 2


class CudaError(MissingError):
    """A call of the CUDA driver failed; `code` is its CUresult."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class CudaLibrary:
    """The CUDA driver API.

    Raises:
        MissingError: There is no driver.
        CudaError: The driver does not start.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise MissingError(NO_DRIVER) from error
        try:
            self.call("cuInit", ctypes.c_uint(0))
        except CudaError as error:
            raise MissingError(NO_GPU) if error.code == NO_DEVICE else error from error

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Args:
            name: As in `cuMemAlloc_v2`.
            arguments: ctypes values; a plain int would be cut to 32 bits.

        Raises:
            CudaError: It returned an error.
            MissingError: The driver is too old to have it.
        """
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise MissingError(f"the NVIDIA driver has no {name}: it is too old; install a newer one") from error
        code = function(*arguments)
        if code:
            raise CudaError(f"the CUDA driver's {name} failed: {self._error_text(code)}", code)

    def _error_text(self, code: int) -> str:
        text = ctypes.c_char_p()
        if self._library.cuGetErrorString(code, ctypes.byref(text)) or text.value is None:
            return f"error {code}"
        return f"{text.value.decode()} (error {code})"
