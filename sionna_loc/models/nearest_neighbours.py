"""Fingerprinting by the nearest neighbours among power-delay profiles."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive, check_positive_int
from sionna_loc.layers.fingerprint_memory import (
    dissimilarity,
    smoothed_level,
    triangles,
)
from sionna_loc.models.fingerprint import Fingerprint

_SMALLEST = 1e-6  # mean squared difference of profiles: that of rounding


@dataclass(frozen=True)
class _References:
    """The samples that are remembered, without their CIRs' phases.

    A plain object, so that Keras does not take its variables for the model's: how
    many samples there are is known only when the model's weights are made.

    Attributes:
        profile: [num_references, num_slots * num_ant * num_taps], zero for slots that
            are not filled.
        energy: [num_references, num_slots]. Sum of the squares of each profile.
        filled: [num_references, num_slots], 0 or 1.
        position: [num_references, 3] [m].
    """

    profile: keras.Variable
    energy: keras.Variable
    filled: keras.Variable
    position: keras.Variable


@keras.saving.register_keras_serializable(package="sionna_loc")
class NearestNeighbours(Fingerprint):
    """Mean position of the most similar samples of the training set.

    A sample's fingerprint is the power-delay profile of each TRP in dB, cut off below
    a floor (`CirScaling`). Powers are averaged over neighbouring taps before: paths
    that share a tap fade within centimetres, which tells nothing about neighbours
    that are further away. Two samples are compared by the mean squared difference over
    the TRPs that both have. That grows slowly with the distance of two places, in an
    indoor factory about as its third root, so the nearest neighbours count by a high
    power, `sharpness`, of its inverse. Nothing is trained: `adapt` remembers the
    training set. The defaults are those of the lowest error on validation samples of
    `inf_dh`, where 18,000 are remembered.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        num_sites: int > 0. TRPs of the site.
        num_neighbours: int > 0.
        num_references: int > 0. Samples that `adapt` takes, if there are as many.
        smoothing: int > 0. Taps after which the triangular weights of neighbouring
            taps have come down to 0; 1 for no averaging.
        dynamic_range_db: float > 0 [dB]. From the strongest taps to the floor.
        sharpness: float > 0. See above.
        input_scaling: `"log"` or `"linear"`, see `CirScaling`.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive, if nothing is
        remembered yet, or if there are TRPs at other places.
    References: Bahl and Padmanabhan, "RADAR: An In-Building RF-based User Location
        and Tracking System", Sec. 4.2 (nearest neighbours in signal space).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    DEFAULT_PRESET = "default"

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        num_sites: int = 18,
        num_neighbours: int = 8,
        num_references: int = 18_000,
        smoothing: int = 6,
        dynamic_range_db: float = 47.0,
        sharpness: float = 6.0,
        input_scaling: str = "log",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            region,
            num_taps,
            sampling_rate,
            num_ant,
            num_sites,
            "own",
            input_scaling,
            dynamic_range_db,
            **kwargs,
        )
        check_positive_int("num_neighbours", num_neighbours)
        check_positive_int("num_references", num_references)
        check_positive_int("smoothing", smoothing)
        check_positive("sharpness", sharpness)
        self.num_sites = num_sites
        self.num_neighbours = num_neighbours
        self.num_references = num_references
        self.smoothing = smoothing
        self.dynamic_range_db = dynamic_range_db
        self.sharpness = sharpness
        self._smoother = triangles(num_taps, smoothing)
        self._references: _References | None = None
        self.built = True

    @property
    def num_adapt_samples(self) -> int:
        """Samples that `adapt` asks for."""
        return self.num_references

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Remember the first `num_references` samples.

        Args:
            dataset: batches of (inputs, targets); can be read twice.
        """
        super().adapt(dataset)
        parts, missing = [], self.num_references
        for inputs, targets in dataset:
            parts.append(self._to_reference(inputs, targets, missing))
            missing -= len(parts[-1][0])
            if missing == 0:
                break
        self._remember(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        references = self._references
        check(
            references is not None,
            "There are no samples to compare with: call `adapt` first.",
            num_references=0,
        )
        profile, filled = self._fill_slots(inputs)
        squared = dissimilarity(
            profile,
            ops.cast(filled, "float32"),
            references.profile,
            references.energy,
            references.filled,
        )
        count = min(self.num_neighbours, references.position.shape[0])
        nearness, nearest = ops.top_k(-squared, count)  # [batch, count]
        difference = _SMALLEST - nearness
        weight = ops.power(difference[:, :1] / difference, self.sharpness)
        weight /= ops.sum(weight, axis=1, keepdims=True)
        position = ops.take(references.position, nearest, axis=0)
        return {"position": ops.sum(ops.expand_dims(weight, 2) * position, axis=1)}

    def save_own_variables(self, store: Any) -> None:
        """Save the references; in half precision, as they are remembered."""
        if self._references is not None:
            kept = self._references
            store["profile"] = ops.convert_to_numpy(kept.profile).astype("float16")
            store["filled"] = ops.convert_to_numpy(kept.filled).astype("bool")
            store["position"] = ops.convert_to_numpy(kept.position)

    def load_own_variables(self, store: Any) -> None:
        """Load the references."""
        names = ("profile", "filled", "position")
        self._remember(*(np.asarray(store[name]) for name in names))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_sites": self.num_sites,
            "num_neighbours": self.num_neighbours,
            "num_references": self.num_references,
            "smoothing": self.smoothing,
            "dynamic_range_db": self.dynamic_range_db,
            "sharpness": self.sharpness,
        }

    def _describe(self, cir: keras.KerasTensor) -> keras.KerasTensor:
        """Return the power-delay profiles, smoothed and scaled to the order of 1.

        [num_tokens, num_ant, num_taps, 2] -> [num_tokens, num_ant, num_taps].
        """
        power = ops.sum(ops.square(cir), axis=-1)
        return smoothed_level(power, self._smoother, self.scaling)

    def _to_reference(
        self, inputs: dict[str, Any], targets: dict[str, Any], most: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return profiles in half precision, slots filled and positions of a batch."""
        self.check_trps(inputs)
        profile, filled = map(ops.convert_to_numpy, self._fill_slots(inputs))
        position = ops.convert_to_numpy(targets["position"])
        return profile[:most].astype("float16"), filled[:most], position[:most]

    def _remember(
        self, profile: np.ndarray, filled: np.ndarray, position: np.ndarray
    ) -> None:
        """Keep samples, of any number, as what the model compares with."""
        shape = (len(profile), self.slots.num_slots, -1)
        profile = np.asarray(profile, "float32").reshape(shape)
        energy = np.square(profile).sum(axis=2)
        values = (profile.reshape(len(profile), -1), energy, filled, position)
        variables = [
            keras.Variable(x, trainable=False, dtype="float32") for x in values
        ]
        self._references = _References(*variables)
        self.predict_function = None  # which holds the references of before
