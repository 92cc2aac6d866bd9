"""Product of experts: what several trained localizers believe together."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras

from sionna_loc.checks import check, check_known
from sionna_loc.layers.mixture import ESTIMATES, PositionMixture
from sionna_loc.models.base import Localizer
from sionna_loc.registry import get_model_class, get_model_name

_TAIL_SCALES, _TAIL_LOG_WEIGHTS = (1.0, 3.0, 10.0, 100.0), (0.0, -2.0, -4.0, -6.0)
"""How often an expert is wrong by how many of its deviations."""
_MOST_MODES = 16  # Gaussians of an expert that multiply those of another
_MOST_COMPONENTS = 2048
_SAME = ("region", "num_taps", "sampling_rate", "num_ant")


@keras.saving.register_keras_serializable(package="sionna_loc")
class ProductOfExperts(Localizer):
    """Multiplies the densities of several trained localizers.

    Models that are made differently err in different places: where one has two modes,
    another often knows which it is. Each is surer than it should be, in a few samples
    of a thousand by far, so that all but the first have heavy tails: what no expert
    but one believes is not ruled out by it. The first is the one whose density has most
    components; such a map covers the place anyway.

    The experts stay as they were trained; nothing is learned here.

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
    References: Hinton, "Training Products of Experts by Minimizing Contrastive
        Divergence" (the product); Genest and Zidek, "Combining Probability
        Distributions: A Critique and an Annotated Bibliography", Sec. 3 (the
        logarithmic opinion pool).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    DEFAULT_PRESET = "default"
    is_trainable = False
    num_adapt_samples = 0
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
        self.built = True

    def forget(self) -> None:
        """Forget what experts remember of a place."""
        for expert in self.experts:
            expert.forget()

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> dict:
        """Locate, see the class."""
        beliefs = [_belief(expert(inputs, training=False)) for expert in self.experts]
        beliefs.sort(key=lambda belief: -belief.log_weight.shape[1])
        density = functools.reduce(_product, beliefs)
        return {
            "position": density.estimate(self.estimate),
            "covariance": density.covariance(),
            "map": density.to_map(),
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


def _belief(outputs: Mapping[str, Any]) -> PositionMixture:
    """Return the density that a localizer answers with."""
    if "map" in outputs:
        return PositionMixture.from_map(outputs["map"])
    return PositionMixture.gaussian(outputs["position"], outputs["covariance"])


def _product(belief: PositionMixture, other: PositionMixture) -> PositionMixture:
    """Return the product of a density and one of an expert that may be wrong."""
    other = other.heaviest(_MOST_MODES)
    other = other.heavy_tailed(_TAIL_SCALES, _TAIL_LOG_WEIGHTS)
    return belief.times(other).heaviest(_MOST_COMPONENTS)
