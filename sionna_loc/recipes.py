"""What a run is: its configuration, and the recipe that its training follows.

Imports nothing heavy, so that the command line can list names and defaults at once.
"""

import dataclasses
import importlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

from sionna_loc.checks import (
    UserError,
    check,
    check_known,
    check_not_negative,
    check_positive,
    check_positive_int,
    check_seed,
)
from sionna_loc.constants import AUGMENTATIONS

_FEWEST_COMPILED = 200
"""Steps below which compiling a small network takes longer than it saves."""


@dataclass(frozen=True)
class Recipe:
    """Optimizer, learning-rate schedule, batch size and loss of a training.

    Args:
        learning_rate: float > 0. At the top of the schedule.
        batch_size: int > 0. Samples.
        schedule: `"cosine"`, from the end of the warm-up to 0 at the end of the run,
            or `"exponential"`, multiplied by `epoch_decay` after each epoch, or after
            each `decay_samples` samples.
        warmup: float in [0, 1). Share of the run in which the learning rate grows
            linearly from 0.
        warmup_steps: int >= 0. With `warmup`, steps in which it does at the least, but
            in no more than half of the run: where time limits a run, compilation can
            take all of the warm-up.
        epoch_decay: float in (0, 1]. Of the exponential schedule.
        decay_samples: int > 0 or None. Of the exponential schedule; an epoch if None.
            A UE with all the sets of TRPs that it has, e.g. constellations, counts as
            one sample, see `assembly.make_recipe`.
        weight_decay: float >= 0. Of AdamW.
        beta_1: float in (0, 1). AdamW's decay of the mean of the gradients.
        beta_2: float in (0, 1). AdamW's decay of the mean of their squares.
        clip_norm: float > 0 or None. Largest global norm of the gradients.
        epochs: float > 0 or None. Length of the run where none is asked for.
        max_minutes: float > 0 or None. Time limit of the run where no length is
            asked for.
        emphasis: float >= 0. How much more often than by chance samples with few TRPs
            in line of sight are trained on, see `Scenario.batches`.
        loss: `"module:class"` of the loss of a position.
        steps_per_execution: int > 0. Most steps of one call of Keras, for networks so
            small that calls take longer than they do, see `steps_of_call`; in a call
            the learning rate stays as it is.
    """

    learning_rate: float
    batch_size: int
    schedule: str = "cosine"
    warmup: float = 0.0
    warmup_steps: int = 0
    epoch_decay: float = 1.0
    decay_samples: int | None = None
    weight_decay: float = 0.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    clip_norm: float | None = None
    epochs: float | None = None
    max_minutes: float | None = None
    emphasis: float = 0.0
    loss: str = "sionna_loc.losses:EuclideanDistance"
    steps_per_execution: int = 20

    def learning_rate_at(
        self, progress: float, epoch: float, samples: int = 0
    ) -> float:
        """Return the learning rate.

        Args:
            progress: float in [0, 1]. Share of the run that is done.
            epoch: float >= 0. Epochs that are done.
            samples: int >= 0. Samples that are done.
        """
        rate = self.learning_rate
        if self.warmup:
            share = progress / self.warmup
            if self.warmup_steps:
                steps = samples / self.batch_size
                share = min(share, max(steps / self.warmup_steps, 2 * progress))
            rate *= min(1.0, share)
        if self.schedule == "exponential":
            periods = samples / self.decay_samples if self.decay_samples else epoch
            return rate * self.epoch_decay ** math.floor(periods)
        cosine_progress = max(0.0, min(progress, 1.0) - self.warmup) / (1 - self.warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * cosine_progress))

    def steps_of_call(self, model: Any, num_steps: int | None) -> int:
        """Return the steps of one call of Keras: one, unless compiling them pays.

        Args:
            model: localizer; several steps in a call are for `compiles_steps`.
            num_steps: int >= 0 or None. Steps of the training, if it is known.
        """
        is_short = num_steps is not None and num_steps < _FEWEST_COMPILED
        return 1 if is_short or not model.compiles_steps else self.steps_per_execution

    def make_loss(self) -> Any:
        """Return the loss of a position [m]."""
        module, name = self.loss.split(":")
        return getattr(importlib.import_module(module), name)()


@dataclass(frozen=True)
class SelfTraining:
    """How a model learns from its own fixes.

    Args:
        rounds: int > 0. Times that all samples are located anew, and the sure ones
            learned from.
        epochs: int > 0. Passes over the sure samples in a round.
        max_expected_error: float > 0 [m]. Up to which a fix is sure.
    """

    rounds: int = 3
    epochs: int = 10
    max_expected_error: float = 2.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_positive_int("rounds", self.rounds)
        check_positive_int("epochs", self.epochs)
        check_positive("max_expected_error", self.max_expected_error)


RECIPES = {
    # Balaji et al., "VIn-Loc", Sec. 4: AdamW with weight decay 0.1 and momentum 0.99,
    # learning rate 4e-4, factor 0.993 per epoch, batches of 16, 600 epochs, l2-norm
    # loss. AdamW has no "momentum"; it is read as beta_1, which plays that part. An
    # epoch is one pass over the paper's fixed set, which does not exist when channels
    # are drawn while training: `RunConfig.epoch_size` samples instead.
    "paper": Recipe(
        learning_rate=4e-4,
        batch_size=16,
        schedule="exponential",
        epoch_decay=0.993,
        weight_decay=0.1,
        beta_1=0.99,
        epochs=600,
    ),
    # Klus et al., "Deep Hypernetwork-based Robust Localization in Millimeter-Wave
    # Networks", Sec. III-C: Adam, learning rate 1e-3, "decreasing by 4% for every 10000
    # optimizer steps (processed samples)", mean squared error, 30 epochs. The bracket
    # is taken at its word: samples, not steps, so that the size of a batch, which the
    # paper does not give, has no part in it. A sample is a UE with the measurements of
    # all constellations that a model is trained on: over 30 epochs the rate then falls
    # to 6 % whatever their number. Counted for each constellation, it would fall to
    # 1e-12 with ten, and nothing be learned after a third of the training, whereas the
    # paper trains all models "with identical settings" and finds them good with ten.
    "hyploc": Recipe(
        learning_rate=1e-3,
        batch_size=32,
        schedule="exponential",
        epoch_decay=0.96,
        decay_samples=10_000,
        epochs=30,
        loss="keras.losses:MeanSquaredError",
    ),
    "default": Recipe(
        learning_rate=1.5e-3,
        batch_size=64,
        schedule="cosine",
        warmup=0.03,
        warmup_steps=100,
        weight_decay=1e-2,
        clip_norm=1.0,
        max_minutes=24,
        emphasis=1.5,
    ),
    # Small batches: 6,400 samples of paris_scn1 in 400 steps of 16 gave a negative
    # log-likelihood of 2.3 on validation samples, in 100 steps of 64 (rate 2e-3) of
    # 7.0, and took as long.
    "backprojection": Recipe(
        learning_rate=3e-3,
        batch_size=16,
        schedule="cosine",
        warmup=0.03,
        warmup_steps=100,
        weight_decay=1e-2,
        clip_norm=1.0,
        max_minutes=24,
        emphasis=1.5,
    ),
}

_SMALL = {"batch_size": 8, "num_val": 32, "num_test": 64}
_SMALL_STEPS = 20
_EPOCH_SIZE = 18_000
_ADDED_LATER = {"augment", "data_dir", "emphasis", "init_from"}
"""Fields whose default is what versions of the library did that did not know them."""


@dataclass(frozen=True)
class RunConfig:
    """Everything that the result of a run depends on.

    Args:
        scenario: str. Key of `registry.SCENARIOS`.
        model: str. Key of `registry.MODELS`.
        preset: str or None. Of the model; its default preset if None.
        recipe: str or None. Key of `RECIPES`; the model's default recipe if None.
        num_trps: int > 0 or None. TRPs per sample; the scenario's number if None.
        batch_size: int > 0 or None. Samples; the recipe's if None.
        learning_rate: float > 0 or None. The recipe's if None.
        steps: int > 0 or None. Training steps.
        epochs: float > 0 or None. The same in epochs of `epoch_size` samples.
        max_minutes: float > 0 or None. Training ends, with its schedule complete,
            after that time at the latest. With neither steps, epochs nor minutes,
            the recipe says how long.
        epoch_size: int > 0 or None. Samples that count as an epoch; those of the
            scenario's training set if None, or 18,000, those of the VIn-Loc paper's,
            if it has ever new ones.
        seed: int >= 0. Of weights, stream and everything else that is drawn.
        num_val: int > 0 or None. Samples of the frozen validation set; the scenario's
            number if None.
        num_test: int > 0 or None. Samples of the frozen test set; likewise.
        small: bool. Everything small, for a smoke run.
        baseline: bool. Whether the classical baseline is evaluated on the same test
            set, for the report.
        data_dir: str or None. Folder of a prepared set to take all samples from;
            they are drawn if None.
        emphasis: float >= 0 or None. How much more often samples with few TRPs in line
            of sight are trained on; the recipe's if None.
        augment: one of `constants.AUGMENTATIONS` or None. How training turns, mirrors
            and tilts samples, see `data.augmentation`; not at all if None.
        init_from: str or None. Folder of a finished run, or its `model.keras`, whose
            weights and scales training begins with; random ones if None.
        model_options: dict. Further arguments of the model.
        scenario_options: dict. Further arguments of the scenario.

    Raises: UserError (a ValueError) if a value cannot be.
    """

    scenario: str = "paris_scn1"
    model: str = "vinloc"
    preset: str | None = None
    recipe: str | None = None
    num_trps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    steps: int | None = None
    epochs: float | None = None
    max_minutes: float | None = None
    epoch_size: int | None = None
    seed: int = 0
    num_val: int | None = None
    num_test: int | None = None
    small: bool = False
    baseline: bool = True
    data_dir: str | None = None
    emphasis: float | None = None
    augment: str | None = None
    init_from: str | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    scenario_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked without the scenario and the model."""
        if self.recipe is not None:
            check_known("recipe", self.recipe, RECIPES)
        for name in ("model_options", "scenario_options"):
            value = getattr(self, name)
            check(isinstance(value, dict), f"`{name}` must be a dict.", **{name: value})
        counts = (
            "num_trps",
            "batch_size",
            "steps",
            "epoch_size",
            "num_val",
            "num_test",
        )
        for name in counts:
            if getattr(self, name) is not None:
                check_positive_int(name, getattr(self, name))
        for name in ("learning_rate", "epochs", "max_minutes"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        if self.emphasis is not None:
            check_not_negative("emphasis", self.emphasis)
        if self.augment is not None:
            check_known("augmentation", self.augment, AUGMENTATIONS)
        check_seed(self.seed)
        check(
            self.steps is None or self.epochs is None,
            "Either `steps` or `epochs` may be given, not both.",
            steps=self.steps,
            epochs=self.epochs,
        )

    def resolved(
        self,
        preset: str,
        num_trps: int,
        recipe_name: str = "default",
        scenario: Any = None,
    ) -> "RunConfig":
        """Return the configuration with every default filled in.

        Args:
            preset: the model's preset.
            num_trps: TRPs per sample where the configuration leaves them open.
            recipe_name: the model's, where the configuration leaves it open.
            scenario: gives the sizes of the sets that the configuration leaves open.
        """
        recipe_name = self.recipe or recipe_name
        recipe = RECIPES[recipe_name]
        num_train = getattr(scenario, "num_train", 0)
        epoch_size = num_train * getattr(scenario, "subsets_per_ue", 1)
        sizes = {
            "num_val": getattr(scenario, "num_val", 1000),
            "num_test": getattr(scenario, "num_test", 2000),
        }
        small = dict(_SMALL) if self.small else {}
        small |= {k: min(small[k], whole) for k, whole in sizes.items() if k in small}

        def given(name: str, default: Any) -> Any:
            value = getattr(self, name)
            return small.get(name, default) if value is None else value

        batch_size = given("batch_size", recipe.batch_size)
        epoch_size = self.epoch_size or epoch_size or _EPOCH_SIZE
        steps, max_minutes = self._length(recipe, batch_size, epoch_size)
        return dataclasses.replace(
            self,
            preset=preset,
            recipe=recipe_name,
            num_trps=self.num_trps or num_trps,
            batch_size=batch_size,
            learning_rate=self.learning_rate or recipe.learning_rate,
            steps=steps,
            epochs=None,
            max_minutes=max_minutes,
            epoch_size=epoch_size,
            num_val=given("num_val", sizes["num_val"]),
            num_test=given("num_test", sizes["num_test"]),
        )

    def _length(
        self, recipe: Recipe, batch_size: int, epoch_size: int
    ) -> tuple[int | None, float | None]:
        """Return the steps and the minutes after which training ends."""
        if self.steps is not None:
            return self.steps, self.max_minutes
        epochs = self.epochs
        if epochs is None and self.max_minutes is None:
            if self.small:
                return _SMALL_STEPS, None
            if recipe.epochs is None:
                return None, recipe.max_minutes
            epochs = recipe.epochs
        if epochs is None:
            return None, self.max_minutes
        return math.ceil(epochs * epoch_size / batch_size), self.max_minutes

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-able."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Rebuild from `to_dict`.

        Raises: UserError if fields are missing or unknown, or a value cannot be.
        """
        names = {entry.name for entry in dataclasses.fields(cls)}
        required = names - _ADDED_LATER
        check(
            required <= set(values) <= names,
            "The configuration is of another version of the library.",
            missing=sorted(required - set(values)),
            unknown=sorted(set(values) - names),
        )
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(
                f"The configuration holds a value of the wrong type: {error}."
            ) from error
