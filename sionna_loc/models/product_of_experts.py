"""Product of experts: what several trained localizers believe together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_known
from sionna_loc.layers.mixture import ESTIMATES, PositionMixture
from sionna_loc.layers.opinion_pool import OpinionPool
from sionna_loc.losses import PositionLikelihood
from sionna_loc.models.base import Localizer
from sionna_loc.registry import get_model_class, get_model_name

_SAME = ("region", "num_taps", "sampling_rate", "num_ant")
_NUM_STEPS, _BATCH_SIZE, _LEARNING_RATE = 200, 50, 0.05  # for the pool's few numbers


@keras.saving.register_keras_serializable(package="sionna_loc")
class ProductOfExperts(Localizer):
    """Multiplies the densities of several trained localizers.

    Models that are made differently err in different places: where one has two modes,
    another often knows which it is. The experts stay as they were trained. `calibrate`
    learns from samples that they were not trained on how far to trust each, see
    `OpinionPool`; so an expert beside a map, or any of several Gaussians, is ignored at
    worst. Of several maps the best goes first.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        experts: two or more trained `Localizer`s on CIRs that give a density, of the
            same region, taps and antennas; or what `get_config` says of such, which
            then have no weights yet.
        estimate: `"mean"`, `"median"` or `"mode"` of the density, see
            `layers.mixture.PositionMixture.estimate`.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m]; `covariance` [batch, 3, 3] [m^2], of
        the density about its mean; `map` [batch, num_components, 8], the density, see
        `layers.mixture.MAP_COLUMNS`.
    Raises: UserError (a ValueError) if an expert gives no density, or they do not fit.
    References: see `OpinionPool`.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    DEFAULT_PRESET = "default"
    is_trainable = False
    calibrates = True
    gives_density = True
    estimates: ClassVar[tuple[str, ...]] = ESTIMATES

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        experts: Sequence[Localizer | Mapping[str, Any]] = (),
        estimate: str = "mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        check_known("estimate", estimate, self.estimates)
        check(
            len(experts) > 1, "`experts` must be two or more.", num_experts=len(experts)
        )
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.num_ant = num_ant
        self.estimate = estimate
        self.experts = [_built(expert) for expert in experts]
        for expert in self.experts:
            self._check_expert(expert)
        self.pool = OpinionPool(len(self.experts))
        self.built = True

    def calibrate(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn how far to trust each expert, by the likelihood of true positions.

        Args:
            dataset: batches of (inputs, targets) that no expert was trained on.
        """
        maps, positions = [], []
        for inputs, targets in dataset:
            outputs = [expert.predict_on_batch(inputs) for expert in self.experts]
            maps.append([ops.convert_to_numpy(_map_of(each)) for each in outputs])
            positions.append(ops.convert_to_numpy(targets["position"]))
        maps = [np.concatenate(parts) for parts in zip(*maps, strict=True)]
        inputs = [keras.Input(values.shape[1:]) for values in maps]
        model = keras.Model(inputs, self.pool(inputs))
        model.compile(keras.optimizers.Adam(_LEARNING_RATE), PositionLikelihood())
        positions = np.concatenate(positions)
        rows = np.resize(np.arange(len(positions)), (_NUM_STEPS, _BATCH_SIZE))
        for chosen in rows:  # over and over again
            model.train_on_batch([values[chosen] for values in maps], positions[chosen])

    def forget(self) -> None:
        """Forget what experts remember of a place."""
        for expert in self.experts:
            expert.forget()

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict:
        """Locate, see the class."""
        outputs = [expert(inputs, training=False) for expert in self.experts]
        values = self.pool([_map_of(each) for each in outputs])
        density = PositionMixture.from_map(values)
        return {
            "position": density.estimate(self.estimate),
            "covariance": density.covariance(),
            "map": values,
        }

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the experts without their weights."""
        experts = [
            {
                "model": get_model_name(type(expert).__name__),
                "arguments": expert.get_config(),
            }
            for expert in self.experts
        ]
        names = ("num_taps", "sampling_rate", "num_ant", "estimate")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own, "experts": experts}

    def _check_expert(self, expert: Localizer) -> None:
        """Raise `UserError` for an expert that does not fit."""
        name = get_model_name(type(expert).__name__)
        check(
            expert.gives_density,
            "Each of the experts must give a density; vinloc does with "
            "`gaussian_head`.",
            expert=name,
        )
        for key in _SAME:
            value, wanted = getattr(expert, key, None), getattr(self, key)
            check(
                value == wanted,
                f"Experts must be for the same `{key}`, {wanted!r}.",
                expert=name,
                **{key: value},
            )


def _built(expert: Localizer | Mapping[str, Any]) -> Localizer:
    """Return the expert, without weights of its own if only its arguments are given."""
    if isinstance(expert, Localizer):
        return expert
    return get_model_class(expert["model"]).from_config(dict(expert["arguments"]))


def _map_of(outputs: Mapping[str, Any]) -> keras.KerasTensor:
    """Return the density that a localizer answers with, as a map."""
    if "map" in outputs:
        return outputs["map"]
    belief = PositionMixture.gaussian(outputs["position"], outputs["covariance"])
    return belief.to_map()
