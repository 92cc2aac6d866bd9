"""Measured samples in place of a scenario: files of CIRs or of link measurements.

`--measurements FILE` of the command lines stands for it.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import (
    check,
    check_known,
    check_not_negative_int,
    check_positive_int,
)
from sionna_loc.data.measured import to_inputs
from sionna_loc.data.measured_form import CIRS, LINKS
from sionna_loc.data.measured_rows import Changes, choose_trps, draw_pass
from sionna_loc.data.measured_set import MeasuredSet
from sionna_loc.data.streaming import check_num_trps
from sionna_loc.data.tracks import check_window
from sionna_loc.places.measured_site import MeasuredSite
from sionna_loc.sample import SPLITS
from sionna_loc.scenarios.source import SampleSource

_MARGIN = 0.1  # of the region's longer side, around the UEs of the training set
_SUBSET_SEED = 0x5E75
_NUM_SMALL = 64


class Measured(SampleSource):
    """See the module.

    A sample with fewer TRPs than all of its own has random ones, of which at least one
    is heard: in training others in each pass, in the frozen sets always the same.

    Args:
        files: paths, see `data.measured_set.MeasuredSet`, which says how samples are
            split.
        test_files: paths of further files, all of whose samples are for testing.
        validation_share: float >= 0. Of the samples whose split is drawn.
        test_share: float >= 0. Likewise.
        region: [2, 3], float [m], or None. Box of the UEs; that of the training set's
            UEs and a margin if None.
        augment: bool. Whether training turns each sample by a random angle about the
            centre of the region, and mirrors every other: for models that shall know
            geometry and not the place.
        mute: float in [0, 1). Share of the TRPs of a sample that training takes for
            unheard, at random, but for one: against links that fail.
        range_jitter: float >= 0 [m]. Standard deviation of what training adds to the
            range (ToF) of each link: against learning few places by heart.
        power_jitter: float >= 0 [dB]. The same of the received power.
        small: bool. Few samples, for smoke runs.

    Raises: UserError if the files are not as they must be, or a number cannot be.
    """

    name = "measured"
    holds_inputs = True

    def __init__(
        self,
        files: Sequence[str] = (),
        *,
        test_files: Sequence[str] = (),
        validation_share: float = 0.1,
        test_share: float = 0.1,
        region: Any = None,
        augment: bool = False,
        mute: float = 0.0,
        range_jitter: float = 0.0,
        power_jitter: float = 0.0,
        small: bool = False,
    ) -> None:
        self.changes = Changes(augment, mute, range_jitter, power_jitter)
        self.set = MeasuredSet(files, test_files, validation_share, test_share)
        self._splits = self.set.splits
        if small:
            self._splits = {name: _few(x) for name, x in self._splits.items()}
        self.region = self._box() if region is None else np.asarray(region, float)
        self.place = MeasuredSite(self.region)
        self.num_sites = self.num_trps = self.set.num_sites
        # That a set is empty is said when it is asked for.
        self.num_train, self.num_val, self.num_test = (
            max(len(self._splits[split]), 1) for split in SPLITS
        )

    def batches(
        self,
        batch_size: int,
        seed: int = 0,
        num_trps: int | None = None,
        start: int = 0,
        fields: tuple[str, ...] | None = None,
        emphasis: float = 0.0,
        keep_silent: bool = False,
        window: int = 1,
        augment: str | None = None,
    ) -> tf.data.Dataset:
        """Return endless passes over the training set, see `SampleSource.batches`."""
        del emphasis, keep_silent  # passes stay even; the kind says what is silent
        self.check_augment(augment)
        check_window(self, window)
        check_positive_int("batch_size", batch_size)
        check_not_negative_int("start", start)
        num_trps = check_num_trps(self, num_trps)
        kind = self._kind(fields)
        numbers = self._samples("train")
        one_pass = functools.lru_cache(maxsize=2)(
            lambda index: draw_pass(numbers, self.num_sites, seed, index)
        )

        def read(index: np.ndarray) -> list[np.ndarray]:
            first = start + int(index) * batch_size
            places = np.arange(first, first + batch_size)
            passes, within = np.divmod(places, len(numbers))
            parts = [
                [values[within[passes == number]] for values in one_pass(number)]
                for number in np.unique(passes).tolist()
            ]
            samples, ranks, chance = map(np.concatenate, zip(*parts, strict=True))
            return self._read(samples, kind, num_trps, ranks, chance)

        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        return self._dataset(tf.data.Dataset.counter(), read, kind).apply(endless)

    def frozen(
        self,
        split: str,
        num_samples: int,
        num_trps: int | None = None,
        batch_size: int = 64,
        fields: tuple[str, ...] | None = None,
        keep_silent: bool = False,
        window: int = 1,
    ) -> tf.data.Dataset:
        """Return samples of a split, see `SampleSource.frozen`.

        All of them come in the order of the files; fewer are random ones, and of two
        numbers the smaller one's are among the greater one's.
        """
        del keep_silent
        check_window(self, window)
        check_known("split", split, SPLITS)
        check_positive_int("num_samples", num_samples)
        check_positive_int("batch_size", batch_size)
        num_trps = check_num_trps(self, num_trps)
        samples = self._samples(split)
        check(
            num_samples <= len(samples),
            f"The {split} set has {len(samples)} samples.",
            num_samples=num_samples,
        )
        kind = self._kind(fields)
        draw = np.random.default_rng([_SUBSET_SEED, SPLITS.index(split)])
        ranks = draw.random((len(samples), self.num_sites), np.float32)
        if num_samples < len(samples):
            first = draw.permutation(len(samples))[:num_samples]
            samples, ranks = samples[first], ranks[first]

        def read(index: np.ndarray) -> list[np.ndarray]:
            rows = slice(int(index) * batch_size, (int(index) + 1) * batch_size)
            return self._read(samples[rows], kind, num_trps, ranks[rows])

        indices = tf.data.Dataset.range(-(-num_samples // batch_size))
        return self._dataset(indices, read, kind)

    def config(self) -> dict[str, Any]:
        """Return what the samples are, as JSON can hold it."""
        return {
            "name": self.name,
            **self.set.config(),
            "sizes": [self.num_train, self.num_val, self.num_test],
            "region": np.asarray(self.region).tolist(),
            **asdict(self.changes),
        }

    def check_augment(self, augment: str | None) -> None:
        """Raise `UserError` if samples are to be turned as drawn ones are."""
        check(
            augment is None,
            "`augment` of a training is for drawn channels; measured samples take "
            "--scenario-option augment=true.",
            augment=augment,
        )

    def check_trainable(self) -> None:
        """Raise `UserError` unless every split has a sample."""
        for split in SPLITS:
            self._samples(split)

    def _samples(self, split: str) -> np.ndarray:
        """Return the numbers of the samples of a split, or raise `UserError`."""
        numbers = self._splits[split]
        check(
            len(numbers) > 0,
            f"No measured sample is for the {split} set: give the field `split`, or "
            "samples at more places.",
            num_samples={name: len(x) for name, x in self._splits.items()},
        )
        return numbers

    def _box(self) -> np.ndarray:
        """Return the box of the training set's UEs, with a margin, [2, 3] [m]."""
        chosen = self._splits["train"]
        chosen = chosen if len(chosen) else slice(None)
        places = self.set.ue_position[chosen].astype(np.float64)
        lower, upper = places.min(axis=0), places.max(axis=0)
        margin = max(_MARGIN * float((upper - lower).max()), 1.0)
        margins = np.array([margin, margin, 0.0])
        return np.stack([lower - margins, upper + margins])

    def _kind(self, fields: tuple[str, ...] | None) -> str:
        """Return what is to be read, checked: CIRs or links."""
        kind = self.set.kinds[0]
        if fields is not None:
            kind = CIRS if "cir" in fields else LINKS
        self.set.check_values(kind)
        self._check_changes(kind)
        return kind

    def _check_changes(self, kind: str) -> None:
        """Raise `UserError` for changes that samples of a kind do not allow."""
        changes, form = self.changes, self.set.forms[kind]
        check(
            kind == LINKS or not (changes.range_jitter or changes.power_jitter),
            "`range_jitter` and `power_jitter` are for link measurements, not CIRs.",
            range_jitter=changes.range_jitter,
            power_jitter=changes.power_jitter,
        )
        check(
            kind == LINKS or form.num_ant == 1 or not changes.augment,
            "`augment` does not turn the antennas of CIRs: it takes a single one.",
            num_ant=getattr(form, "num_ant", None),
        )

    def _read(
        self,
        samples: np.ndarray,
        kind: str,
        num_trps: int,
        ranks: np.ndarray,
        chance: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Return a batch: fields per TRP in `_specs`' order, lengths, UEs' places."""
        tokens, lengths = self.set.read(samples, kind)
        if num_trps < self.num_sites:
            kept, lengths = choose_trps(
                lengths, tokens.get("trp_heard"), ranks, num_trps
            )
            tokens = {name: values[kept] for name, values in tokens.items()}
        ue_position = self.set.ue_position[samples]
        if chance is not None:
            centre = self.region.mean(axis=0)
            tokens, ue_position, lengths = self.changes(
                tokens, lengths, ue_position, chance, centre
            )
        values = [tokens[name] for name in self._specs(kind)]
        return [*values, lengths.astype(np.int64), ue_position]

    def _dataset(
        self,
        indices: tf.data.Dataset,
        read: Callable[[np.ndarray], list[np.ndarray]],
        kind: str,
    ) -> tf.data.Dataset:
        """Return what `read` gives for each index as ragged batches."""
        specs = self._specs(kind)
        types = [dtype for dtype, _ in specs.values()] + [tf.int64, tf.float32]

        def batch(index: tf.Tensor) -> dict[str, Any]:
            *values, lengths, ue_position = tf.numpy_function(read, [index], types)
            shaped = {
                name: tf.ensure_shape(value, [None, *shape])
                for (name, (_, shape)), value in zip(specs.items(), values, strict=True)
            }
            inputs = to_inputs(shaped, tf.ensure_shape(lengths, [None]))
            return {**inputs, "ue_position": tf.ensure_shape(ue_position, [None, 3])}

        return indices.map(batch, num_parallel_calls=2, deterministic=True).prefetch(2)

    def _specs(self, kind: str) -> dict[str, tuple[tf.DType, list[int]]]:
        """Return type and shape, without the first axis, of the fields per TRP."""
        place = {"trp_position": (tf.float32, [3])}
        if kind == CIRS:
            form = self.set.forms[CIRS]
            return {"cir": (tf.float32, [form.num_ant, form.num_taps, 2]), **place}
        return {"link": (tf.float32, [5]), "trp_heard": (tf.bool, []), **place}


def _few(numbers: np.ndarray) -> np.ndarray:
    """Return at most `_NUM_SMALL` of them, evenly."""
    return numbers[:: -(-len(numbers) // _NUM_SMALL) or 1]
