"""Prepared sets, as `python -m sionna_loc.prepare` writes them, read for training.

A scenario with a prepared set draws nothing any more: the stream takes its drops, and
the frozen sets their samples, from there. With the seed of the run, they are the same
samples, in the same order, that it would draw.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import UserError, check
from sionna_loc.data import checksums, position_sets, stored_drops
from sionna_loc.data.storage import read_samples
from sionna_loc.sample import FIELDS

_METADATA, _INFO = "metadata.json", "dataset_info.json"
_DEPTHS = ("", "*/", "*/*/", "*/*/*/")
"""Where sets lie below a folder: `<scenario>/<configuration>/<version>/`."""
_KEYS = {"scenario", "version", "splits", "fingerprint", "config"}
_READ_BATCH = 256


class PreparedSet:
    """A prepared set of a scenario, whole and of the scenario's configuration.

    Args:
        data_dir: folder of the set, or one above it that holds one such set.
        scenario: whose samples are wanted.

    Raises: UserError if there is none, or none of the scenario's version and
        configuration, or if it is truncated or altered.
    """

    def __init__(self, data_dir: str | Path, scenario: Any) -> None:
        self.folder, metadata = _find(Path(data_dir), scenario)
        self.digest = checksums.check_files(str(self.folder))
        self._splits = metadata["splits"]
        self._scenario = scenario

    def num_samples(self, split: str) -> int:
        """Return the number of samples of a split, each of one UE."""
        return self._splits.get(split, {}).get("num_samples", 0)

    def num_frozen(self, split: str) -> int:
        """Return the number of samples that `Scenario.frozen` has of a whole split."""
        scenario = self._scenario
        named = scenario.site_sets(scenario.num_trps) is not None
        return self.num_samples(split) * (scenario.subsets_per_ue if named else 1)

    def links(self, split: str, num_samples: int) -> dict[str, np.ndarray]:
        """Return samples of a split, with the links to all sites.

        Returns: fields of the sample contract, [num_samples, num_sites, ...], and
            `ue_position` [num_samples, 3].
        Raises: UserError if the split has fewer samples.
        """
        check(
            num_samples <= self.num_samples(split),
            f"The prepared set has {self.num_samples(split)} {split} samples.",
            num_samples=num_samples,
        )
        ues = self._ues(split, num_samples)
        samples = read_samples(str(self.folder), split).take(int(ues[-1]) + 1)
        parts = list(samples.batch(_READ_BATCH).as_numpy_iterator())
        links = {n: np.concatenate([part[n] for part in parts]) for n in FIELDS}
        if len(ues) == len(links["ue_position"]):
            return links
        return {name: values[ues] for name, values in links.items()}

    def _ues(self, split: str, num_samples: int) -> np.ndarray:
        """Return which samples a smaller set has: the first, or some, if named."""
        if stored_drops.kind(self._scenario, split) != stored_drops.NAMED:
            return np.arange(num_samples)
        total = len(self._scenario.split_positions(split)[1])
        stored = position_sets.chosen(total, self.num_samples(split))
        return np.searchsorted(stored, position_sets.chosen(total, num_samples))

    def drops(self, first: int, fields: tuple[str, ...]) -> tf.data.Dataset:
        """Return the drops of the training split, over and over.

        A last drop that is not whole is filled up with its own UEs.

        Args:
            first: int >= 0. Index of the first drop in the endless sequence.
            fields: names of the fields to carry.

        Returns: dataset of drops, as `Scenario.drop` gives them.
        """
        num_samples = self.num_samples("train")
        check(
            num_samples > 0,
            "The prepared set has no training split.",
            folder=str(self.folder),
        )
        num_drops = -(-num_samples // self._scenario.num_ues)
        passes = self._one_pass(0, fields).repeat()
        if skipped := first % num_drops:
            return self._one_pass(skipped, fields).concatenate(passes)
        return passes

    def _one_pass(self, first: int, fields: tuple[str, ...]) -> tf.data.Dataset:
        """Return the drops from `first` to the last one."""
        num_ues, num_sites = self._scenario.num_ues, self._scenario.num_sites

        def as_drop(rows: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            ue = tf.range(num_ues) % tf.shape(rows["num_paths"])[0]
            drop = {name: tf.gather(rows[name], ue) for name in fields}
            for name in fields:
                if FIELDS[name].is_per_trp:
                    rest = drop[name].shape[2:]
                    shape = [num_ues, num_sites, *rest]
                    drop[name] = tf.ensure_shape(drop[name], shape)
            if "trp_position" in drop:
                drop["trp_position"] = drop["trp_position"][0]
            return drop

        samples = read_samples(str(self.folder), "train", first * num_ues)
        return samples.batch(num_ues).map(as_drop)


def use_prepared(scenario: Any, data_dir: str | Path, *, all_train: bool) -> None:
    """Make a scenario take its samples from a prepared set.

    Args:
        scenario: to be changed.
        data_dir: see `PreparedSet`.
        all_train: bool. Whether passes over a training set of fixed size take all
            samples of the split, instead of the scenario's `num_train`.

    Raises: UserError as `PreparedSet`.
    """
    prepared = PreparedSet(data_dir, scenario)
    if scenario.num_train and all_train:
        scenario.num_train = prepared.num_samples("train")
    scenario.prepared = prepared


def _find(data_dir: Path, scenario: Any) -> tuple[Path, dict[str, Any]]:
    """Return the only set in the folder that fits the scenario, and its metadata."""
    found = {}
    for depth in _DEPTHS:
        for path in sorted(data_dir.glob(f"{depth}{_INFO}")):
            # What starts with these is being written, or was when the power failed.
            if not path.parent.name.startswith(("incomplete.", ".")):
                found[path.parent] = _read_json(path.parent / _METADATA)
    name = scenario.name
    found = {f: values for f, values in found.items() if values["scenario"] == name}
    check(
        bool(found),
        f"The folder holds no prepared set of {name}. Make one: python -m "
        f"sionna_loc.prepare --scenario {name} --data-dir {data_dir} ...",
        data_dir=str(data_dir),
    )
    fitting = {f: v for f, v in found.items() if not _misfit(v, scenario)}
    if not fitting:
        folder, values = next(iter(found.items()))
        misfit = _misfit(values, scenario)
        raise UserError(f"{misfit} Received: data_dir={str(folder)!r}.")
    check(
        len(fitting) == 1,
        "The folder holds several sets of that scenario: name one of "
        f"{', '.join(map(str, fitting))}.",
        data_dir=str(data_dir),
    )
    return next(iter(fitting.items()))


def _misfit(metadata: dict[str, Any], scenario: Any) -> str:
    """Return what keeps a set from being the scenario's, empty if nothing does."""
    version = metadata["version"]
    if version != scenario.data_version:
        return (
            f"The prepared set is of version {version}, and {scenario.name} is of "
            f"version {scenario.data_version} now: prepare it again."
        )
    if metadata["fingerprint"] != scenario.fingerprint():
        name, stored, wanted = _first_difference(
            {**metadata["config"], "fingerprint": metadata["fingerprint"]},
            {**scenario.config(), "fingerprint": scenario.fingerprint()},
        )
        return (
            "The prepared set is of another configuration of the scenario: its "
            f"`{name}` is {stored!r} instead of {wanted!r}."
        )
    stored = metadata["splits"].get("train", {}).get("drops")
    if stored not in (None, stored_drops.kind(scenario, "train")):
        wanted = "none" if stored == stored_drops.STREAM else "one"
        return (
            "The prepared set was made with another kind of training set: it needs "
            f"{wanted} of fixed size (option `num_train` of the scenario)."
        )
    return ""


def _first_difference(
    stored: Any, wanted: Any, name: str = ""
) -> tuple[str, Any, Any] | None:
    """Return the dotted name of the first value that differs, and both values."""
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*stored, *wanted}):
            full = f"{name}.{key}" if name else key
            found = _first_difference(stored.get(key), wanted.get(key), full)
            if found is not None:
                return found
        return None
    return None if stored == wanted else (name, stored, wanted)


def _read_json(path: Path) -> dict[str, Any]:
    """Return the metadata of a set, or raise `UserError`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        is_ours = _KEYS <= set(values)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(
            f"{path.name} of the prepared set is damaged: prepare the set again. "
            f"Received: file={str(path)!r}."
        ) from error
    check(is_ours, "That is no set of this library.", file=str(path))
    return values
