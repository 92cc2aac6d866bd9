"""Opinion pool: the product of what several experts believe."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from sionna_loc.checks import check
from sionna_loc.layers.mixture import PositionMixture

_TAIL_SCALES = (1.0, 3.0, 10.0, 100.0)
_TAIL_LOGITS = (0.0, -2.0, -4.0, -6.0)
_MOST_MODES = 16  # Gaussians of an expert that multiply those of another
_MOST_COMPONENTS = 2048


@keras.saving.register_keras_serializable(package="sionna_loc")
class OpinionPool(keras.layers.Layer):
    """Multiplies the densities of several experts, each of which may be wrong.

    An expert is sometimes wrong by far more than it says. So its Gaussians are scaled,
    in the plane and in height, and have heavy tails: each is a mixture of itself and of
    wider ones, by factors of 3, 10 and 100. Those of the density of most components, if
    it has more than 16, stay as they are: it is taken for a map that has a weight for
    all places, and is the one to be best of several such (the first of the largest).
    The logarithms of the weights of all are divided by a temperature each. Temperature,
    scales and weights of the tails, seven numbers for an expert, say how far to trust
    it, also because experts are seldom wrong independently. They are to be learned from
    samples that no expert was trained on.

    Args:
        num_experts: int > 1.

    Call arguments:
        maps: one [batch, num_components, 8] for each expert, float, see
            `layers.mixture.MAP_COLUMNS`; single Gaussians are maps of one component.

    Returns: [batch, num_components, 8], the product, normalised. Of an expert other
        than the one with most components, the 16 heaviest count, of the product, the
        2048 heaviest.
    Raises: UserError (a ValueError) if there are fewer than two experts.
    References: Genest and Zidek, "Combining Probability Distributions: A Critique and
        an Annotated Bibliography", Sec. 3 (the logarithmic opinion pool); Hinton,
        "Training Products of Experts by Minimizing Contrastive Divergence"; West, "On
        Scale Mixtures of Normal Distributions" (the tails); Guo et al., "On Calibration
        of Modern Neural Networks", Sec. 4.2 (the temperature).
    """

    def __init__(self, num_experts: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check(
            isinstance(num_experts, int) and num_experts > 1,
            "`num_experts` must be a whole number of 2 or more.",
            num_experts=num_experts,
        )
        self.num_experts = num_experts
        self.log_temperature = self.add_weight(
            shape=(num_experts,), initializer="zeros", name="log_temperature"
        )
        self.log_scale = self.add_weight(
            shape=(num_experts, 2), initializer="zeros", name="log_scale"
        )
        self.tail_logits = self.add_weight(
            shape=(num_experts, len(_TAIL_SCALES)), initializer="zeros", name="tails"
        )
        self.tail_logits.assign([_TAIL_LOGITS] * num_experts)
        self.built = True

    def call(self, maps: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        """Multiply."""
        beliefs = [PositionMixture.from_map(values) for values in maps]
        by_size = sorted(
            range(self.num_experts), key=lambda k: -beliefs[k].log_weight.shape[1]
        )
        first, *others = by_size
        trusted = [self._trusted(k, beliefs[k].heaviest(_MOST_MODES)) for k in others]
        if beliefs[first].log_weight.shape[1] > _MOST_MODES:
            base = self._tempered(first, beliefs[first])
        else:
            base = self._trusted(first, beliefs[first])
        return functools.reduce(_product, trusted, base).to_map()

    def compute_output_shape(
        self, maps_shape: Sequence[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Return [batch, num_components, 8]."""
        first, *others = sorted((shape[1] for shape in maps_shape), reverse=True)
        first *= 1 if first > _MOST_MODES else len(_TAIL_SCALES)
        for size in others:
            pairs = first * min(size, _MOST_MODES) * len(_TAIL_SCALES)
            first = min(pairs, _MOST_COMPONENTS)
        return (maps_shape[0][0], first, maps_shape[0][2])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "num_experts": self.num_experts}

    def _tempered(self, index: int, belief: PositionMixture) -> PositionMixture:
        """Return what an expert believes at its temperature."""
        return belief.tempered(ops.exp(self.log_temperature[index]))

    def _trusted(self, index: int, belief: PositionMixture) -> PositionMixture:
        """Return what an expert believes, as far as it is to be trusted."""
        log_weights = ops.log_softmax(self.tail_logits[index])
        belief = self._tempered(index, belief)
        plane, height = (ops.exp(self.log_scale[index, axis]) for axis in range(2))
        tails = [belief.scaled(plane * x, height * x) for x in _TAIL_SCALES]
        tails = [
            tail._replace(log_weight=tail.log_weight + log_weights[k])
            for k, tail in enumerate(tails)
        ]
        return functools.reduce(PositionMixture.joined, tails)


def _product(belief: PositionMixture, other: PositionMixture) -> PositionMixture:
    """Return the product, of a bounded number of components."""
    return belief.times(other).heaviest(_MOST_COMPONENTS)
