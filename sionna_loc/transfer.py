"""A run's model in another scenario than the one that it was trained in."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc.assembly import make_features, make_scenario, trained_form
from sionna_loc.checks import check
from sionna_loc.data.measured_form import check_form
from sionna_loc.models.base import Localizer
from sionna_loc.recipes import RunConfig
from sionna_loc.scenarios.moved import Moved

_TOLERANCE = 1e-3
"""Of sides and middles of regions [m]."""


def with_scenario(
    config: RunConfig, scenario: str | None, options: dict[str, Any]
) -> RunConfig:
    """Return the configuration of a run with another scenario, or other options.

    Args:
        config: of the run.
        scenario: key of `registry.SCENARIOS`; the run's if None.
        options: of the scenario. They are all that it gets if it is another one, else
            they replace the run's.

    Returns: the configuration; with the prepared set of the run only if that holds what
        the scenario draws. Options may also choose from it.
    """
    name = scenario or config.scenario
    if name == config.scenario:
        options = {**config.scenario_options, **options}
    other = dataclasses.replace(config, scenario=name, scenario_options=options)
    if config.data_dir is not None and not _draws_the_same(config, other):
        other = dataclasses.replace(other, data_dir=None)
    return other


def sized(config: RunConfig, scenario: Any, model: Localizer) -> RunConfig:
    """Return the configuration with the sizes of another scenario.

    Args:
        config: of that scenario, or of measurements.
        scenario: made of it.
        model: decides on the number of TRPs if it takes one only.
    """
    num_test = config.num_test if config.small else scenario.num_test
    num_trps = model.fixed_num_trps or scenario.num_trps
    return dataclasses.replace(config, num_test=num_test, num_trps=num_trps)


def _draws_the_same(config: RunConfig, other: RunConfig) -> bool:
    """Return whether a prepared set of a configuration serves another one."""
    if config.scenario != other.scenario:
        return False
    if config.scenario_options == other.scenario_options:
        return True
    kinds = set()
    for one in (config, other):
        scenario = make_scenario(dataclasses.replace(one, data_dir=None))
        # Without a training set of fixed size there is a stream, which is another one.
        kinds.add((scenario.fingerprint(), scenario.num_train > 0))
    return len(kinds) == 1


def in_frame_of(
    model: Localizer, record: dict[str, Any], scenario: Any, run_dir: Path
) -> Any:
    """Return a scenario, its ground plan moved to where a run's model looks for UEs.

    Heights are not moved: in every scenario 0 is the ground or the floor.

    Args:
        model: of the run.
        record: of the run, see `make_record`.
        scenario: whose samples it is to locate.
        run_dir: of the run, for messages.

    Returns: the scenario itself if that is where its UEs are, else `Moved`.
    Raises: UserError if its samples are not of the form that the model was trained on,
        or if its UEs do not fit into the ground plan in which the model looks for
        them, or all stand above or below that.
    """
    found = make_features(scenario, model).form
    wanted = trained_form(record, run_dir)
    check(
        type(found) is type(wanted),
        f"The samples of {scenario.name} are not what the model takes.",
        features=model.features,
    )
    check_form(scenario.name, found, wanted)
    region, known = np.asarray(scenario.region), np.asarray(model.region)
    sides = np.ptp(known[:, :2], axis=0)
    check(
        bool((np.ptp(region[:, :2], axis=0) <= sides + _TOLERANCE).all()),
        f"The UEs of {scenario.name} do not fit into the ground plan in which the "
        f"model looks for them, of {sides[0]:g} m x {sides[1]:g} m.",
        region=region.tolist(),
    )
    (lowest, highest), heights = known[:, 2], region[:, 2]
    check(
        bool(heights[0] <= highest + _TOLERANCE and heights[1] >= lowest - _TOLERANCE),
        f"The model looks for UEs at heights of {lowest:g} to {highest:g} m, and those "
        f"of {scenario.name} are elsewhere; only ground plans are moved.",
        region=region.tolist(),
    )
    offset = known[:, :2].mean(axis=0) - region[:, :2].mean(axis=0)
    if np.abs(offset).max() <= _TOLERANCE:
        return scenario
    return Moved(scenario, (*offset.tolist(), 0.0))
