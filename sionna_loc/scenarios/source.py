"""What training and evaluation ask of where samples come from."""

import abc
import hashlib
import json
from typing import Any

import numpy as np
import tensorflow as tf


class SampleSource(abc.ABC):
    """What models are trained and tested on: drawn by a scenario, or measured.

    Attributes that a subclass owes: `name`; `region` [2, 3] [m], the box of the UEs;
    `num_trps`, TRPs of a sample where nothing else is asked for; `num_sites`, the most
    that a sample may have; and `place`, whose `top_view()` gives the
    `places.sionna_scene.TopView` that the figures are drawn on.
    """

    name: str
    region: np.ndarray
    num_trps: int
    num_sites: int
    num_train: int = 0
    """UEs of a training set of fixed size, 0 for ever new ones."""
    num_val: int = 1000
    """Samples of the validation set where no other number is asked for."""
    num_test: int = 2000
    """Samples of the test set where no other number is asked for."""
    subsets_per_ue: int = 1
    """Samples that each UE of the training set gives in a pass."""
    holds_inputs = False
    """Whether samples are inputs of models already, not paths."""
    has_walls: bool = True
    """Whether walls reflect; a model can find out where those of one place stand."""
    is_one_place: bool = True
    """Whether all samples are of one place, so that a model can learn it by heart."""
    prepared: Any = None
    """The stored set that samples are read from, see `data.prepared`; `None` for
    none."""

    @abc.abstractmethod
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
        """Return what models train on, endless, in ragged batches.

        Args:
            batch_size: int > 0. Samples of a batch.
            seed: int. The same seed gives the same samples.
            num_trps: int > 0. TRPs of a sample, heard or not; `num_trps` by default.
            start: int >= 0. Index of the first sample.
            fields: names of the fields to carry, all by default.
            emphasis: float >= 0. How much more often an endless stream shows samples
                with few TRPs in line of sight: one with `n` of them has the weight
                `(1 + n)^-emphasis`. Passes over a fixed number of samples stay even.
            keep_silent: bool. Whether TRPs of which a sample hears nothing stay in it.
            window: int > 0. Most samples of a window, where UEs are on tracks. With
                more than 1, each sample comes with those before it on its track, see
                `data.tracks`: fields per TRP are [batch, (window), (num_trps), ...].
            augment: one of `constants.AUGMENTATIONS`: every sample is turned and
                mirrored, or tilted too, at random about the middle of the region, see
                `data.augmentation`; none is if None.
        """

    @abc.abstractmethod
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
        """Return a fixed set of samples, in ragged batches.

        Args:
            split: `"train"`, `"validation"` or `"test"`.
            num_samples: int > 0.
            num_trps: int, 1 to `num_sites`; `num_trps` by default.
            batch_size: int > 0.
            fields: names of the fields to carry, all by default.
            keep_silent: bool. See `batches`.
            window: int > 0. See `batches`; the samples are the same for every one.
        """

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """Return everything that changes the data, as JSON can hold it."""

    def site_sets(self, num_trps: int) -> np.ndarray | None:
        """Return the sets of sites that samples may have.

        Args:
            num_trps: int > 0. TRPs of a sample.

        Returns: [num_sets, num_trps], int; here `None`: any `num_trps` sites.
        """
        del num_trps

    def track_lengths(self, split: str) -> np.ndarray | None:
        """Return how many samples each track of a split has.

        Args:
            split: `"train"`, `"validation"` or `"test"`.

        Returns: [num_tracks], int, of the tracks that make up the split one after
            another, each in the order of time; here `None`: UEs are not on tracks.
        """
        del split

    def fingerprint(self) -> str:
        """Return a digest of `config`, 64 hexadecimal digits."""
        text = json.dumps(self.config(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
