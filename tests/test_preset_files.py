"""Preset files: what `train --preset FILE` takes."""

import json

import pytest

from sionna_loc.checks import UserError
from sionna_loc.preset_files import expand_preset


def write(tmp_path, values):
    path = tmp_path / "preset.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_whole_numbers_may_stand_for_others(tmp_path):
    path = write(tmp_path, {"model": "vinloc", "emphasis": 3})
    given = expand_preset({"preset": path, "seed": 1})
    assert given == {"model": "vinloc", "emphasis": 3.0, "seed": 1, "model_options": {}}
    assert isinstance(given["emphasis"], float)


@pytest.mark.parametrize("value", [True, "3", None, [3.0]])
def test_other_types_are_one_clear_line(tmp_path, value):
    path = write(tmp_path, {"emphasis": value})
    with pytest.raises(UserError, match=r"holds some of .*emphasis \(float\).*preset="):
        expand_preset({"preset": path})
