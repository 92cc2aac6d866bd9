"""Small stored sets for tests."""

from pathlib import Path

import numpy as np

from sionna_loc import preparation

SIZES = {"num_train": 40, "num_val": 12, "num_test": 8, "shard_size": 16}


def make_builder(data_dir, scenario, options=None, **sizes):
    """Return a builder of a small set; nothing is written yet."""
    builder_class = preparation.find_builder_class(scenario, preparation.RECIPES)
    config = preparation.make_config(
        builder_class, "small", SIZES | sizes, options or {}
    )
    return builder_class(data_dir=str(data_dir), config=config)


def write_set(data_dir, scenario, options=None, **sizes):
    """Write a small set and return its folder."""
    builder = make_builder(data_dir, scenario, options, **sizes)
    return preparation.prepare(builder, quiet=True)


def sums(folder):
    """Return what the files of a set are, as the set itself says."""
    return (Path(folder) / "SHA256SUMS").read_text()


def dense(values):
    """Return an array of the values of a tensor, ragged or not."""
    return getattr(values, "flat_values", values).numpy()


def assert_same_batches(found, expected, num_batches):
    """Compare two datasets of ragged batches, bit by bit."""
    count = 0
    for one, other in zip(
        found.take(num_batches), expected.take(num_batches), strict=True
    ):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(dense(one[name]), dense(other[name]))
            if hasattr(one[name], "row_lengths"):
                np.testing.assert_array_equal(
                    one[name].row_lengths(), other[name].row_lengths()
                )
        count += 1
    return count
