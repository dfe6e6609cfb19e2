"""The start and end of every command: the one place that turns an error into a line on stderr and an exit code.

    0    done
    1    a bug in this program
    2    usage: an option or an argument is wrong
    3    the input is bad: checkpoint, config, artifact, prompt
    4    the environment lacks something: a package, a driver, a device, disk space
    5    parity failed
    129  ended by SIGHUP: the terminal was closed
    130  stopped by Ctrl-C; the text printed so far stays
    141  the reader of stdout closed the pipe
    143  ended by SIGTERM

With `MINIMIND_EDGE_DEBUG=1` the traceback is printed too.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from .interruption import EXIT_CODES as SIGNAL_CODES
from .interruption import Ended, remove_unfinished, watch_signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

BUG, BAD_INPUT, ENVIRONMENT = 1, 3, 4
INTERRUPTED, BROKEN_PIPE = 130, 141

EXIT_CODES = "Exit codes: 0 done, 1 a bug, 2 usage, 3 bad input, 4 something is missing, 5 parity failed, 130 Ctrl-C."
"""The last line of every program's help."""

ADVICE = {
    errno.ENOSPC: " (free some, or write elsewhere)",
    errno.EROFS: " (write elsewhere)",
}
"""The advice for some errors of the operating system, by errno."""

EXPORT_PACKAGES = frozenset({"torch", "transformers", "safetensors", "onnx", "onnxscript", "onnx_ir", "rich"})
"""The top-level modules that the extra `export` installs; the error for a missing one names the extra."""

EXPORT_WHEEL = frozenset({"bundle", "demo", "evaluation", "graph", "parity", "plan", "quantization", "traced", "web"})
"""The packages of `minimind_edge.export` that the extra installs by a wheel of its own, minimind-edge-export."""


def run(app: typer.Typer, name: str, *, at_once: bool = False) -> NoReturn:
    """Run a typer app on the process's arguments, and exit with its exit code.

    Args:
        app: The program's commands.
        name: The program's name in the help.
        at_once: End the process without shutting the interpreter down, which takes as long as a few tokens; for
            programs without work at their exit. A signal ends every program like this.
    """
    prepare_streams()
    watch_signals()
    command = typer.main.get_command(app)
    code = guarded(lambda: command.main(prog_name=name, standalone_mode=False))
    if code in SIGNAL_CODES:
        remove_unfinished()
    if at_once or code in SIGNAL_CODES:
        end_at_once(code)
    abandon(sys.stdout)
    abandon(sys.stderr)
    sys.exit(code)


def compute_without_blas() -> None:
    """Have numpy's BLAS start no threads: the runtime never calls it, and each would keep a core busy as it starts.

    For commands that run no PyTorch, whose own BLAS may read the same variable; the user's own setting stays.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def end_at_once(code: int) -> NoReturn:
    """Flush stdout and stderr, and end the process without running exit handlers."""
    abandon(sys.stdout)
    abandon(sys.stderr)
    os._exit(code)


def prepare_streams() -> None:
    """Set stdout and stderr to UTF-8 in any locale; a closed stream is replaced by one that drops the text."""
    if sys.stdin is None:  # otherwise the first file that is opened takes its number
        os.open(os.devnull, os.O_RDONLY)
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def keep_imports() -> None:
    """Exempt what is imported by now from the garbage collections of a comparison, each of which would look at it."""
    gc.freeze()


def guarded(call: Callable[[], object]) -> int:
    """Call a program, flush stdout, and return the exit code; an error is reported on stderr.

    Args:
        call: The program, which returns its exit code, or anything else for 0.
    """
    try:
        result = call()
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Ended as end:
        return end.code
    except BrokenPipeError:
        abandon(sys.stdout)
        return BROKEN_PIPE
    except SystemExit as end:
        # typer itself ends the program, with another exit code, when the reader of stdout closes the pipe.
        if isinstance(end.__context__, BrokenPipeError):
            return BROKEN_PIPE
        raise
    # The outermost handler: an error that was not handled so far is a bug, and is reported as one.
    except Exception as error:
        return report(error)
    return result if isinstance(result, int) else 0


def report(error: Exception) -> int:
    """Print an error as one line on stderr and return its exit code."""
    message, code = explain(error)
    abandon(sys.stdout)
    with contextlib.suppress(OSError):  # the code is all that is left to tell it by
        if os.environ.get("MINIMIND_EDGE_DEBUG") == "1":
            traceback.print_exception(error)
        print("error:", " ".join(message.split()), file=sys.stderr)
    return code


def explain(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code of an error.

    The packages' own errors carry an int `exit_code`, and so do typer's usage errors, which also word themselves.
    """
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return explain_usage(error) if hasattr(error, "format_message") else str(error), code
    if isinstance(error, ImportError) and (is_export_wheels(error) or not is_own(error)):
        return explain_import_error(error), ENVIRONMENT
    if isinstance(error, OSError):
        return explain_os_error(error)
    if isinstance(error, MemoryError):
        return "out of memory: close other programs, or take a smaller model, batch or --max-length", ENVIRONMENT
    return f"internal error: {type(error).__name__}: {error} (set MINIMIND_EDGE_DEBUG=1 to see where)", BUG


def explain_usage(error: Any) -> str:
    """The message of a usage error of typer, with a hint at the command's help."""
    context = getattr(error, "ctx", None)
    advice = f" (see {context.command_path} --help)" if context is not None else ""
    return f"{error.format_message()}{advice}"


def explain_import_error(error: ImportError) -> str:
    """The message for a failed import: the command that installs a missing module, or a conflict between packages."""
    if not isinstance(error, ModuleNotFoundError):
        return f"the installed Python packages do not fit together: {error}"
    module = (error.name or "") if is_export_wheels(error) else (error.name or "").partition(".")[0]
    extra = "[export]" if is_export_wheels(error) or module in EXPORT_PACKAGES else ""
    return f"the Python package {module!r} is not installed: run pip install 'minimind-edge{extra}'"


def is_own(error: ImportError) -> bool:
    """Whether a package of this project could not be imported."""
    return (error.name or "").startswith("minimind_edge")


def is_export_wheels(error: ImportError) -> bool:
    """Whether a package is missing that the wheel minimind-edge-export holds, as on a device."""
    package, _, name = (error.name or "").rpartition(".")
    return package == "minimind_edge.export" and name in EXPORT_WHEEL


def explain_os_error(error: OSError) -> tuple[str, int]:
    """The message and exit code for an error of the operating system; only a missing path is bad input."""
    reason = f"{error.strerror or error}{ADVICE.get(error.errno or 0, '')}"
    where = f": {error.filename}" if error.filename is not None else ""
    code = BAD_INPUT if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)) else ENVIRONMENT
    return f"{reason[:1].lower()}{reason[1:]}{where}", code


def abandon(stream: TextIO) -> None:
    """Flush a stream; where that fails, keep the interpreter from trying again at its exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
