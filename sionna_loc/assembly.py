"""From a configuration to its parts: scenario, features, model, optimizer, record."""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from sionna_loc.checks import UserError, check, check_known
from sionna_loc.data.measured_form import CIRS, LINKS, check_form
from sionna_loc.data.tracks import check_window
from sionna_loc.features.cir_form import CirForm
from sionna_loc.features.cir_tokens import CirTokens
from sionna_loc.features.link_form import LinkForm
from sionna_loc.features.link_measurements import LinkMeasurements
from sionna_loc.features.measured_inputs import MeasuredInputs
from sionna_loc.models.base import Localizer
from sionna_loc.optimizers import FusedAdamW
from sionna_loc.recipes import RECIPES, Recipe, RunConfig
from sionna_loc.registry import (
    FROM_FILES,
    FROM_RUNS,
    SCENARIOS,
    get_model_class,
    lookup,
)
from sionna_loc.saving import load_model

FEATURES = {"cir_tokens": CirTokens, "link_measurements": LinkMeasurements}
"""What models can take, see `Localizer.features`."""
Features = CirTokens | LinkMeasurements | MeasuredInputs


def default_run_dir(config: RunConfig) -> Path:
    """Return `runs/<scenario>-<model>-<preset>-s<seed>`."""
    preset = config.preset or get_model_class(config.model).DEFAULT_PRESET
    parts = [config.scenario, config.model, preset, f"s{config.seed}"]
    return Path("runs") / "-".join(filter(None, [*parts, config.small and "small"]))


def make_scenario(config: RunConfig) -> Any:
    """Return the scenario of a configuration, its arguments checked."""
    scenario_class = lookup("scenario", config.scenario, SCENARIOS | FROM_FILES)
    options = dict(config.scenario_options)
    if config.small:
        options["small"] = True
    _check_options(f"option of {config.scenario}", scenario_class, options)
    with _naming(config.scenario, options):
        scenario = scenario_class(**options)
    if config.data_dir is not None:
        check(
            not scenario.holds_inputs,
            "Samples come from measurements or from a prepared set, not from both.",
            data_dir=config.data_dir,
        )
        from sionna_loc.data.prepared import use_prepared  # needs an extra package

        use_prepared(scenario, config.data_dir, all_train="num_train" not in options)
    return scenario


def make_features(
    scenario: Any,
    model: type[Localizer] | Localizer = Localizer,
    window: int | None = None,
) -> Features:
    """Return what turns the samples of a scenario into the inputs of a model.

    Args:
        scenario: whose samples they are.
        model: whose inputs they are, or its class.
        window: int > 0 or None. Most samples of a track that the model looks at; what
            `model` says if None.

    Raises: UserError if the samples are not on tracks and the window is longer than
        one, or a track is shorter.
    """
    window = model.window if window is None else window
    check_window(scenario, window)
    check_known("features", model.features, FEATURES)
    if scenario.holds_inputs:
        scenario.set.check_values(model.features)
        return MeasuredInputs(model.features, scenario.set.forms[model.features])
    if model.features == "link_measurements":
        return LinkMeasurements(window=window)
    return CirTokens(
        num_taps=scenario.num_taps,
        sampling_rate=scenario.sampling_rate,
        bandwidth=scenario.bandwidth,
        array=scenario.ue_array,
        synchronised=scenario.synchronised,
        noise_power_db=scenario.noise_power_db,
        trp_position_error=scenario.trp_position_error,
    )


def _window(config: RunConfig, model_class: type[Localizer]) -> int:
    """Return how many samples of a track the model of a configuration looks at."""
    if model_class.window == 1:
        return 1
    return _model_option(config, model_class, "window")


def _model_option(config: RunConfig, model_class: type[Localizer], name: str) -> Any:
    """Return an attribute that a model may take as an argument."""
    preset = model_class.PRESETS[config.preset or model_class.DEFAULT_PRESET]
    options = {**preset, **config.model_options}
    return options.get(name, getattr(model_class, name))


def reading_options(features: Features) -> dict[str, Any]:
    """Return how `Scenario.batches` and `Scenario.frozen` are read for features."""
    options: dict[str, Any] = {"fields": features.fields}
    if features.keeps_silent:
        options["keep_silent"] = True
    if features.window > 1:
        options["window"] = features.window
    return options


def make_model(config: RunConfig, scenario: Any) -> Localizer:
    """Return the untrained model of a configuration, its arguments checked."""
    model_class = get_model_class(config.model)
    options = config.model_options
    _check_options(f"option of {config.model}", model_class, options)
    given = {"region": scenario.region}
    wanted = {}
    form = make_features(scenario, model_class, _window(config, model_class)).form
    if isinstance(form, CirForm):
        given |= {
            "num_ant": form.num_ant,
            "num_taps": form.num_taps,
            "sampling_rate": form.sampling_rate,
        }
        wanted = {
            "array_shape": form.array_shape,
            "array_spacing": form.array.spacing,
            "bandwidth": form.bandwidth,
        }
    wanted |= {
        "num_trps": config.num_trps,
        "num_sites": scenario.num_sites,
        "num_references": getattr(scenario, "num_train", 0),
    }
    parameters = inspect.signature(model_class).parameters
    given |= {name: x for name, x in wanted.items() if x and name in parameters}
    clash = sorted(set(given) & set(options))
    check(not clash, "That model option is the scenario's to give.", options=clash)
    options = _options_for_place(config, scenario, model_class)
    if config.model in FROM_RUNS:
        options["experts"] = [load_model(run) for run in options["experts"]]
    with _naming(config.model, options):
        return model_class.from_preset(config.preset, **given, **options)


def _augmentation(config: RunConfig, scenario: Any) -> str | None:
    """Return how samples are turned in training, `None` if they are not."""
    if scenario.holds_inputs:
        return scenario.changes.augment
    return config.augment


def shows_one_place(config: RunConfig, scenario: Any) -> bool:
    """Return whether all training samples are of one place, and none is turned."""
    return scenario.is_one_place and not _augmentation(config, scenario)


def _options_for_place(
    config: RunConfig, scenario: Any, model_class: type[Localizer]
) -> dict[str, Any]:
    """Return the user's options, and what a model can know of the scenario's place.

    Raises: UserError if the user asks for what no model can know of it.
    """
    options = dict(config.model_options)
    is_one_place = shows_one_place(config, scenario)
    waits = not _model_option(config, model_class, "seeks_walls")
    has_walls = scenario.has_walls and (is_one_place or waits)
    for names, known, needs in (
        (model_class.wall_options, has_walls, "one place whose walls reflect"),
        (model_class.place_options, is_one_place, "one place"),
    ):
        asked = {name: options[name] for name in names if options.get(name)}
        check(
            known or not asked,
            f"That model option is for samples of {needs}, and that are not turned.",
            options=asked,
        )
    if not has_walls:
        options = {**dict.fromkeys(model_class.wall_options, 0), **options}
    # With walls it is not known to help, and the preset of a paper is the paper's.
    is_default = config.preset in (None, model_class.DEFAULT_PRESET)
    if is_one_place and not has_walls and is_default:
        options = {**model_class.place_options, **options}
    return options


def trained_form(record: dict[str, Any], run_dir: Path) -> CirForm | LinkForm:
    """Return what the samples were that the model of a run was trained on.

    Raises: UserError if the run is of another version of the library.
    """
    try:
        features = dict(record["features"])
        if features.pop("measured", False):
            if "num_taps" in features:
                return CirForm.from_config(features)
            return LinkForm(**features)
        if "num_taps" not in features:
            return LinkMeasurements.from_config(features).form
        return CirTokens.from_config(features).form
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            "The run is of another version of the library: its `features` are not "
            f"known here. Received: run={str(run_dir)!r}."
        ) from error


def serves(scenario: Any, model: type[Localizer] | Localizer) -> bool:
    """Return whether the samples of a scenario give what a model takes."""
    return not scenario.holds_inputs or model.features in scenario.set.kinds


def check_measurements(record: dict[str, Any], scenario: Any, run_dir: Path) -> None:
    """Raise `UserError` if samples are measured and do not fit a run's model."""
    if scenario.holds_inputs:
        wanted = trained_form(record, run_dir)
        kind = CIRS if isinstance(wanted, CirForm) else LINKS
        scenario.set.check_values(kind)
        check_form("The measurements", scenario.set.forms[kind], wanted)


def with_measurements(config: RunConfig, measured: dict[str, Any]) -> RunConfig:
    """Return the configuration of a run with measured samples in its scenario's place.

    Samples that a run on measurements was tested with are tested with again.

    Args:
        config: of the run.
        measured: options of `scenarios.measured.Measured`, its files.
    """
    shares = ("validation_share", "test_share")
    kept = {}
    if config.scenario == "measured":
        kept = {k: v for k, v in config.scenario_options.items() if k in shares}
    return dataclasses.replace(
        config,
        scenario="measured",
        scenario_options={**kept, **measured},
        data_dir=None,
        small=False,
    )


def make_recipe(config: RunConfig, scenario: Any | None) -> Recipe:
    """Return the recipe of a resolved configuration on a scenario, if it is on one.

    Where each UE of a training set gives several samples, so many count as one for the
    decay of the learning rate.
    """
    recipe = RECIPES[config.recipe]
    emphasis = recipe.emphasis if config.emphasis is None else config.emphasis
    decay_samples = recipe.decay_samples
    if decay_samples is not None and scenario is not None and scenario.num_train:
        decay_samples *= getattr(scenario, "subsets_per_ue", 1)
    return dataclasses.replace(
        recipe,
        decay_samples=decay_samples,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        emphasis=emphasis,
    )


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Return the optimizer of a recipe."""
    is_tensorflow = keras.backend.backend() == "tensorflow"
    optimizer = FusedAdamW if is_tensorflow else keras.optimizers.AdamW
    return optimizer(
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
        global_clipnorm=recipe.clip_norm,
    )


def compile_model(
    model: Localizer, recipe: Recipe, steps_per_execution: int = 1
) -> None:
    """Give a model the optimizer and the loss of a recipe, see `keras.Model.compile`.

    Args:
        model: its weights and scales stay as they are.
        recipe: what it is trained by.
        steps_per_execution: int > 0. Steps of one call of Keras.
    """
    model.compile(
        optimizer=make_optimizer(recipe),
        loss={"position": recipe.make_loss()},
        steps_per_execution=steps_per_execution,
    )


def _check_options(kind: str, owner: type, options: dict[str, Any]) -> None:
    """Raise `UserError` for an option that the constructor does not have."""
    parameters = inspect.signature(owner.__init__).parameters.values()
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    known = [p.name for p in parameters if p.kind not in variadic and p.name != "self"]
    for name in options:
        check_known(kind, name, known)


@contextlib.contextmanager
def _naming(owner: str, options: dict[str, Any]) -> Iterator[None]:
    """Make what a constructor says about the user's options a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        if not options:
            raise
        raise UserError(
            f"The options do not fit {owner} ({error}). Received: options={options!r}."
        ) from error


def resolved_config(record: dict[str, Any]) -> RunConfig:
    """Return the configuration of a run, with every default filled in.

    Args:
        record: of `make_record`, as the run folder holds it.

    Raises: UserError if it is not whole, or of another version of the library.
    """
    config = RunConfig.from_dict(record["resolved"])
    names = (
        *("preset", "recipe", "num_trps", "batch_size", "learning_rate"),
        *("epoch_size", "num_val", "num_test"),
    )
    missing = [name for name in names if getattr(config, name) is None]
    check(not missing, "The run's configuration is not whole.", missing=missing)
    return config


def make_record(config: RunConfig, scenario: Any) -> dict[str, Any]:
    """Return what a result depends on, JSON-able, all of it checked."""
    model_class = get_model_class(config.model)
    preset = config.preset or model_class.DEFAULT_PRESET
    check_known(f"preset of {config.model}", preset, model_class.PRESETS)
    sized = config
    prepared = getattr(scenario, "prepared", None)
    if prepared is not None:  # it says how much there is, if nobody else does
        sized = dataclasses.replace(
            config,
            num_val=config.num_val or prepared.num_frozen("validation") or None,
            num_test=config.num_test or prepared.num_frozen("test") or None,
        )
    features = make_features(scenario, model_class, _window(config, model_class))
    recipe = config.recipe or model_class.default_recipe
    resolved = sized.resolved(preset, scenario.num_trps, recipe, scenario)
    check(
        resolved.num_trps <= scenario.num_sites,
        f"`num_trps` must be at most the {scenario.num_sites} TRPs that there are.",
        num_trps=resolved.num_trps,
    )
    check(
        not (config.emphasis and getattr(scenario, "num_train", 0)),
        f"`emphasis` needs ever new samples; {config.scenario} has a training set of "
        "fixed size.",
        emphasis=config.emphasis,
    )
    _check_augment(config, scenario, model_class)
    return {
        "config": config.to_dict(),
        "resolved": resolved.to_dict(),
        "scenario": scenario.config(),
        "fingerprint": scenario.fingerprint(),
        "features": features.get_config(),
        "prepared": None if prepared is None else prepared.digest,
    }


def _check_augment(
    config: RunConfig, scenario: Any, model_class: type[Localizer]
) -> None:
    """Raise `UserError` for samples turned in vain, or where they cannot be."""
    if scenario.holds_inputs:
        scenario.check_augment(config.augment)
    augment = _augmentation(config, scenario)
    check(
        not augment or _model_option(config, model_class, "use_trp_positions"),
        f"`augment` is for models that see where the TRPs stand; {config.model}, as "
        "asked for, learns one place, which turned samples contradict.",
        augment=augment,
    )
