"""What every localizer has in common."""

from collections.abc import Iterable
from typing import Any, ClassVar

import keras
import numpy as np

from sionna_loc.checks import check, check_known


class Localizer(keras.Model):
    """Maps what a UE hears of a set of TRPs to the UE's position.

    Args:
        region: [2, 3], float [m]. Lower and upper corner of the box that holds the
            UEs; positions are scaled by it inside the model. TRPs may stand outside.
        **kwargs: of `keras.Model`, e.g. `name`.

    The constructor of a subclass takes what training passes to every model, `region`,
    and, if `features` are CIR tokens: `num_taps`, int > 0, taps of each CIR;
    `sampling_rate`, float > 0 [Hz], of the taps; `num_ant`, int > 0, UE antennas. It
    may take the `bandwidth` of the CIRs, float > 0
    [Hz]; the `array_shape` of the UE, (rows, columns), and the `array_spacing` of its
    antennas, float > 0 [wavelengths]; `num_trps`, int > 0, TRPs of a sample;
    `num_sites`, int > 0, TRPs to choose from; `num_references`, int > 0, size of the
    training set if that is fixed. These and all else have a default or stand in every
    preset, and `get_config` gives all of it back.

    Call arguments:
        inputs: dict with `cir` [batch, num_trps, num_ant, num_taps, 2] and
            `trp_position` [batch, num_trps, 3] [m], ragged on the second axis, or
            padded with `trp_mask` [batch, num_trps]. Other `features` give other
            entries instead of `cir`.

    Returns: dict with `position` [batch, 3] [m]. A model that knows how sure it is adds
        `covariance` [batch, 3, 3] [m^2], and one that gives a density `map`
        [batch, num_components, 8], see `layers.mixture.MAP_COLUMNS`.
    Raises: UserError (a ValueError) if `region` is not a box.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    DEFAULT_PRESET: ClassVar[str] = ""

    features: ClassVar[str] = "cir_tokens"
    """What it takes: a key of `assembly.FEATURES`."""
    default_recipe: ClassVar[str] = "default"
    """How it is trained where nothing else is asked for: a key of `recipes.RECIPES`."""

    num_adapt_samples: int | None = None
    """Samples of the training set that `adapt` asks for, `None` for a few batches."""
    window: int = 1
    """Most samples of a track that it looks at, the one to locate being the last; a
    subclass with more than 1 takes `window` as an argument."""
    use_trp_positions: bool = True
    """Whether it locates a UE among TRPs wherever they stand; if not, it knows the
    place, and samples that are turned tell it nothing. A subclass may take it as an
    argument."""
    wall_options: ClassVar[tuple[str, ...]] = ()
    """Arguments that make it look for the walls of a place; 0 for models that shall
    not, because there are none or, with `seeks_walls`, other ones for each sample."""
    seeks_walls: bool = True
    """Whether `adapt` looks for walls, else only `remember`. A subclass may take it as
    an argument."""
    place_options: ClassVar[dict[str, Any]] = {}
    """Arguments that make it learn a place by heart, with their values, in the default
    preset, for a place that stays the same and has no walls to look for."""
    widening_options: ClassVar[tuple[str, ...]] = ()
    """Arguments that make layers see more after all that they saw, and say more after
    all that they said, in this order. A model with more of them can begin with the
    weights of one with fewer, see `saving.set_initial_weights`."""
    added_layers: ClassVar[dict[tuple[str, ...], tuple[str, ...]]] = {}
    """Layers that know one place and say nothing untrained: the arguments that they are
    of, the first of which asks for them -> what the paths of their weights have in
    them. A model can begin with the weights of one without them, or with those of
    another region."""
    memory_layers: ClassVar[dict[tuple[str, ...], tuple[str, ...]]] = {}
    """Layers that hold samples, as in `added_layers`. `remember` fills them, whatever
    weights a model begins with."""
    arguments_before: ClassVar[dict[str, Any]] = {}
    """Arguments that models from before there were these are loaded with, where that is
    not the default."""
    compiles_steps: bool = False
    """Whether XLA compiles its training steps as a whole, on TensorFlow too, if Keras
    is told to take several in a call (`steps_per_execution`). Both pay where networks
    are small."""
    fixed_num_trps: int | None = None
    """TRPs that every sample must have, `None` if any number will do."""
    calibrates: ClassVar[bool] = False
    """Whether it neither trains nor adapts, but learns by `calibrate`."""
    gives_density: bool = False
    """Whether it says how sure it is: answers with a `covariance`, perhaps a `map`."""
    estimates: ClassVar[tuple[str, ...]] = ()
    """What of its density it can answer with, if there is a choice: values of its
    argument `estimate`."""

    def __init__(self, region: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # XLA refuses ragged inputs; what can be compiled compiles itself.
        self.supports_jit = False
        corners = np.asarray(region, dtype=np.float32)
        check(
            corners.shape == (2, 3) and bool(np.all(corners[0] <= corners[1])),
            "`region` must be a lower and an upper corner, [2, 3], in metres.",
            region=region,
        )
        self.region = corners.tolist()
        self._center = corners.mean(axis=0)
        # One scale for all axes, so that distances keep their meaning.
        self._scale = float(max(np.ptp(corners, axis=0)) / 2)
        check(self._scale > 0, "`region` must have an extent.", region=region)
        self._box = tuple((corners - self._center) / self._scale)

    @classmethod
    def from_preset(cls, preset: str | None = None, **options: Any) -> "Localizer":
        """Build the model that `preset` names.

        Args:
            preset: key of `PRESETS`; the model's default if None.
            **options: the remaining arguments of the constructor; they win over the
                preset's.

        Raises: UserError if the preset is unknown, with the known ones.
        """
        preset = preset or cls.DEFAULT_PRESET
        check_known(f"preset of {cls.__name__}", preset, cls.PRESETS)
        return cls(**{**cls.PRESETS[preset], **options})

    @property
    def is_trainable(self) -> bool:
        """Whether there is anything to train."""
        return bool(self.trainable_weights)

    def pad(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return inputs, ragged or padded, as padded ones with `trp_mask`.

        A subclass that has `compiles_steps` owes it.
        """
        raise NotImplementedError

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn the scaling of inputs from batches of (inputs, targets); no-op here."""

    def calibrate(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn from validation samples how far to trust what is known; no-op here."""

    def remember(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Learn from the samples that training goes on with what gradients do not.

        That is samples themselves, or walls. A no-op here.

        Args:
            dataset: batches of (inputs, targets); can be read twice.
        """

    def forget(self) -> None:
        """Forget what `remember` learns of a place; no-op here."""

    def answer_with(self, estimate: str) -> None:
        """Answer with another estimate from now on, and be saved so.

        Args:
            estimate: one of `estimates`.

        Raises: UserError if it is none of them.
        """
        check(
            bool(self.estimates),
            f"`{type(self).__name__}` has one estimate only.",
            estimate=estimate,
        )
        check_known("estimate", estimate, self.estimates)
        self.estimate = estimate
        self.predict_function = self.test_function = None  # traced with another

    def compute_metrics(
        self, x: Any, y: Any, y_pred: dict[str, Any], sample_weight: Any = None
    ) -> dict[str, Any]:
        """Update metrics on the outputs that have a target."""
        return super().compute_metrics(x, y, _with_target(y_pred, y), sample_weight)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of the outputs that have a target."""
        return super().compute_loss(
            x, y, _with_target(y_pred, y), sample_weight, training
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "region": self.region}


def _with_target(y_pred: dict[str, Any], y: Any) -> dict[str, Any]:
    """Return the entries of `y_pred` that `y` has too."""
    return {name: y_pred[name] for name in y} if isinstance(y, dict) else y_pred
