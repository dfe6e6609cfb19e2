"""`python -m minimind_edge.cli PROGRAM ...`: the programs where no console scripts are on the path."""

from __future__ import annotations

import sys
from importlib import import_module

PROGRAMS = {"export": "export_app", "run": "run_app", "bench": "bench_app", "serve": "serve_app"}
"""The module of each program, by its name without `minimind-`."""

USAGE = f"Usage: python -m minimind_edge.cli {{{'|'.join(PROGRAMS)}}} [ARGUMENTS]..."


def main() -> None:
    """Run the program that the first argument names; without one, show which there are."""
    words = sys.argv[1:]
    name = words[0].removeprefix("minimind-") if words else "--help"
    if name == "--help":
        print(USAGE)
        print("\nEach is the program minimind-PROGRAM, and has a --help of its own.")
        sys.exit(0)
    if name not in PROGRAMS:
        print(f"error: there is no program {words[0]!r}; expected one of {', '.join(PROGRAMS)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"minimind-{name}", *words[1:]]
    import_module(f".{PROGRAMS[name]}", __package__).main()


if __name__ == "__main__":
    main()
