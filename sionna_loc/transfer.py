"""A run's model in another scenario than the one that it was trained in."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc.assembly import make_features, trained_form
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
    """
    name = scenario or config.scenario
    if name == config.scenario:
        options = {**config.scenario_options, **options}
    if name != config.scenario or options != config.scenario_options:
        config = dataclasses.replace(config, data_dir=None)  # of other samples
    return dataclasses.replace(config, scenario=name, scenario_options=options)


def in_frame_of(
    model: Localizer, record: dict[str, Any], scenario: Any, run_dir: Path
) -> Any:
    """Return a scenario, moved to where a run's model looks for UEs.

    Args:
        model: of the run.
        record: of the run, see `make_record`.
        scenario: whose samples it is to locate.
        run_dir: of the run, for messages.

    Returns: the scenario itself if that is where its UEs are, else `Moved`.
    Raises: UserError if its samples are not of the form that the model was trained on,
        or if its UEs do not fit into the box in which the model looks for them.
    """
    found = make_features(scenario, model).form
    wanted = trained_form(record, run_dir)
    check(
        type(found) is type(wanted),
        f"The samples of {scenario.name} are not what the model takes.",
        features=model.features,
    )
    check_form(scenario.name, found, wanted)
    plan = np.asarray(scenario.region)[:, :2]
    box = np.asarray(model.region)[:, :2]
    check(
        bool((np.ptp(plan, axis=0) <= np.ptp(box, axis=0) + _TOLERANCE).all()),
        f"The UEs of {scenario.name} do not fit into the box in which the model looks "
        f"for them, of {' m x '.join(f'{side:g}' for side in np.ptp(box, axis=0))} m.",
        region=np.asarray(scenario.region).tolist(),
    )
    offset = box.mean(axis=0) - plan.mean(axis=0)
    if np.abs(offset).max() <= _TOLERANCE:
        return scenario
    return Moved(scenario, (*offset.tolist(), 0.0))
