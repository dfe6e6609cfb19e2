"""Hostile files for every reader: the mutations, the readers, and the property that all of them keep.

`tests/fuzz` runs a bounded slice of it by hypothesis, `python -m fuzzing` (`make fuzz`) as much as is asked for. Both
draw from the same generators: hypothesis by its own choices, so that a fault shrinks, the long form by seeded ones.
"""
