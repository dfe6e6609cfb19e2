"""Benchmark of this project against its peers, on the same models, interleaved: `python -m benchmarks.peers --help`."""
