"""This project against its peers, on the same models, in one interleaved run: `python -m benchmarks.peers --help`."""
