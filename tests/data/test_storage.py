"""Stored sets as such: their features, their shards, and who can read them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import stored_sets
import tensorflow as tf

from sionna_loc import preparation
from sionna_loc.checks import UserError
from sionna_loc.data import frozen, stored_drops
from sionna_loc.registry import get_scenario
from sionna_loc.sample import FIELDS

tfds = pytest.importorskip("tensorflow_datasets")
MOVING = {"num_train": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stored_sets.write_set(tmp_path_factory.mktemp("sets"), "inf_dh", MOVING)


@pytest.fixture(scope="module")
def scenario():
    return get_scenario("inf_dh", small=True, **MOVING)


def test_tfds_reads_it_with_nothing_of_ours(folder):
    builder = tfds.builder_from_directory(folder)

    assert type(builder).__module__.startswith("tensorflow_datasets.")
    assert "sionna_loc" not in (folder / "features.json").read_text()
    assert {
        name: split.num_examples for name, split in builder.info.splits.items()
    } == {
        "train": 40,
        "validation": 12,
        "test": 8,
    }
    assert builder.info.splits["train"].shard_lengths == [32, 8]
    assert set(builder.info.features) == set(FIELDS)
    for name, feature in builder.info.features.items():
        assert feature.doc.desc == FIELDS[name].meaning
        assert (feature.doc.value_range or "") == FIELDS[name].unit


def test_stored_and_streamed_samples_have_the_same_form(folder, scenario):
    stored = tfds.builder_from_directory(folder).as_dataset(split="train")
    assert stored.element_spec == scenario.stream().element_spec


def test_values_are_those_of_the_drops(folder, scenario):
    stored = tfds.builder_from_directory(folder).as_dataset(split="train")
    second = tf.constant(1, tf.int64)
    seed = tf.random.fold_in(tf.constant([0, 0x5712EA], tf.int64), second)
    drop = scenario.drop(seed)
    for row, sample in enumerate(stored.skip(32).take(8)):
        for name in FIELDS:
            rows = drop[name]
            expected = (rows if name == "trp_position" else rows[row]).numpy()
            # Drawn in a graph, which rounds in another order.
            atol = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(sample[name], expected, 1e-4, atol, err_msg=name)


def test_the_seed_decides_and_the_size_of_shards_does_not(folder, tmp_path):
    again = stored_sets.write_set(tmp_path / "again", "inf_dh", MOVING)
    other = stored_sets.write_set(tmp_path / "other", "inf_dh", MOVING, seed=1)
    whole = stored_sets.write_set(tmp_path / "whole", "inf_dh", MOVING, shard_size=4096)

    assert stored_sets.sums(again) == stored_sets.sums(folder)
    first, second, third = (read(path) for path in (folder, other, whole))
    for split in first:
        assert not as_set(first[split]) & as_set(second[split])
        np.testing.assert_array_equal(first[split], third[split])


def read(folder):
    """Return split -> positions of the UEs."""
    builder = tfds.builder_from_directory(folder)
    return {
        split: np.stack([s["ue_position"] for s in builder.as_dataset(split=split)])
        for split in builder.info.splits
    }


def as_set(positions):
    return {tuple(position) for position in positions.tolist()}


def test_splits_share_no_ue(folder):
    positions = [as_set(values) for values in read(folder).values()]
    assert len(set.union(*positions)) == 60


def test_without_training_on_ever_new_samples_all_splits_are_frozen_sets(tmp_path):
    scenario = get_scenario("inf_dh", small=True)
    folder = stored_sets.write_set(tmp_path, "inf_dh")
    for split, positions in read(folder).items():
        links = frozen.load(scenario, split, len(positions))
        np.testing.assert_array_equal(positions, links["ue_position"])


def interrupt_after(monkeypatch, num_samples):
    """Make the drawing fail like a killed process, and count what is drawn."""
    drawn = []
    draw = stored_drops.draw_samples

    def stop(*arguments):
        for sample in draw(*arguments):
            if len(drawn) == num_samples:
                raise KeyboardInterrupt
            drawn.append(sample)
            yield sample

    monkeypatch.setattr(stored_drops, "draw_samples", stop)
    return drawn


@pytest.mark.parametrize("damage", [None, "half", "empty"])
def test_finished_shards_are_kept(folder, tmp_path, monkeypatch, damage):
    builder = stored_sets.make_builder(tmp_path, "inf_dh", MOVING)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 35)
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare(builder, quiet=True)
    kept = sorted(Path(builder.unfinished_path).glob("*-000??-of-000??"))
    assert [path.name[-14:] for path in kept] == ["00000-of-00002"]
    if damage is not None:
        content = kept[0].read_bytes()
        kept[0].unlink()  # the set that is being written has the same file
        kept[0].write_bytes(content[: len(content) // 2] if damage == "half" else b"")

    drawn = interrupt_after(monkeypatch, -1)
    again = preparation.prepare(
        stored_sets.make_builder(tmp_path, "inf_dh", MOVING), quiet=True
    )

    assert len(drawn) == (28 if damage is None else 60)
    assert stored_sets.sums(again) == stored_sets.sums(folder)
    assert {path.name for path in again.parent.iterdir()} == {".lock", again.name}


def test_what_is_there_is_checked_and_not_drawn_again(folder, monkeypatch):
    builder = stored_sets.make_builder(folder.parents[2], "inf_dh", MOVING)
    drawn = interrupt_after(monkeypatch, -1)
    assert preparation.prepare(builder, quiet=True) == folder
    assert not drawn


def test_two_processes_do_not_write_the_same_set(tmp_path):
    builder = stored_sets.make_builder(tmp_path, "inf_dh", MOVING)
    with preparation._alone(builder.data_path):
        with pytest.raises(UserError, match="Another process is preparing"):
            preparation.prepare(builder, quiet=True)


def test_names_tell_sets_apart(tmp_path):
    variants = [{}, {"num_train": 41}, {"num_val": 0}, {"seed": 7}]
    builders = [
        stored_sets.make_builder(tmp_path, "inf_dh", MOVING, **sizes)
        for sizes in variants
    ]
    builders.append(stored_sets.make_builder(tmp_path, "inf_dh", {"factory": 1}))
    names = [builder.builder_config.name for builder in builders]
    assert len(set(names)) == len(names)
    usual = preparation.make_config(type(builders[0]), "small", {"num_test": 64}, {})
    assert usual.name == "small"


@pytest.mark.slow
def test_a_killed_process_goes_on(folder, tmp_path):
    """`kill -9`, in a process of its own, while it draws."""
    flags = ["--small", "--scenario-option", "num_train=0", "--data-dir", str(tmp_path)]
    for name, value in stored_sets.SIZES.items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    slowly = (
        "import sys, time; from sionna_loc import cli, prepare\n"
        "from sionna_loc.data import stored_drops\n"
        "draw = stored_drops.draw_samples\n"
        "def drawn(*a): yield from ((time.sleep(0.1), s)[1] for s in draw(*a))\n"
        "stored_drops.draw_samples = drawn\n"
        "sys.exit(prepare.main(sys.argv[1:]))\n"
    )
    arguments = ["--scenario", "inf_dh", *flags]
    process = subprocess.Popen([sys.executable, "-c", slowly, *arguments])
    pattern = "inf_dh/*/.unfinished-*/*-00000-of-00002"
    deadline = time.monotonic() + 120
    while not (kept := list(tmp_path.glob(pattern))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    inode = kept[0].stat().st_ino

    command = [sys.executable, "-m", "sionna_loc.prepare", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)

    (again,) = tmp_path.glob("inf_dh/*/1.0.0")
    assert "32 of them kept" in result.stdout
    assert stored_sets.sums(again) == stored_sets.sums(folder)
    (shard,) = again.glob("*-train*-00000-of-00002")
    assert shard.stat().st_ino == inode
    assert not list(again.parent.glob("incomplete.*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inf_dh", "paris_scn1"])
def test_beam_with_two_workers_writes_the_same_files(name, tmp_path):
    """Each worker has a ray tracer of its own."""
    pytest.importorskip("apache_beam")
    plain = stored_sets.write_set(tmp_path / "plain", name)
    builder = stored_sets.make_builder(tmp_path / "beam", name)
    options = ("direct_num_workers=2", "direct_running_mode=multi_processing")
    written = preparation.prepare(
        builder, beam_options=["runner=DirectRunner", *options], quiet=True
    )
    assert stored_sets.sums(written) == stored_sets.sums(plain)
    for file in ("metadata.json", "features.json", "dataset_info.json"):
        one, other = (json.loads((f / file).read_text()) for f in (written, plain))
        assert one == other
