"""Each recipe of a stored set against TFDS's own contract, and against ours."""

import os
from typing import ClassVar

import pytest

from sionna_loc import preparation
from sionna_loc.data.storage import SampleSetConfig
from sionna_loc.registry import SCENARIOS, lookup
from sionna_loc.sample import FIELDS

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("dill")

SIZES = {"num_train": 6, "num_val": 3, "num_test": 2}
SLOW = {"cities", "madrid"}  # loads four cities; compiles the stock path solver
NAMES = sorted(
    path.name for path in preparation.RECIPES.iterdir() if path.name in SCENARIOS
)


def builder_class(name):
    return preparation.find_builder_class(name, preparation.RECIPES)


def contract(name):
    """Return TFDS's test case for a recipe, on a few samples of the small form."""

    class Contract(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = builder_class(name)
        SPLITS: ClassVar = {"train": 6, "validation": 3, "test": 2}
        BUILDER_CONFIG_NAMES_TO_TEST: ClassVar = [
            SampleSetConfig(name="tiny", options={"small": True}, **SIZES)
        ]
        EXAMPLE_DIR = os.fspath(preparation.RECIPES)  # there is nothing to download

    Contract.__name__ = Contract.__qualname__ = f"Test_{name}"
    return pytest.mark.slow(Contract) if name in SLOW else Contract


for _name in NAMES:
    globals()[f"Test_{_name}"] = contract(_name)
del _name


def test_every_scenario_has_a_recipe():
    assert set(NAMES) == set(SCENARIOS)


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    builder = builder_class(name)
    scenario_class = lookup("scenario", name, SCENARIOS)
    assert builder.name == name
    assert str(builder.VERSION) == scenario_class.data_version
    assert str(builder.VERSION) in builder.RELEASE_NOTES
    assert {"standard", "small"} <= set(builder.builder_configs)
    for config in builder.BUILDER_CONFIGS:
        assert config.description and config.seed == 0
        assert all((config.num_train, config.num_val, config.num_test))
    metadata = builder.get_metadata()
    assert "@" in metadata.citation
    for field, spec in FIELDS.items():
        shape = ", ".join(map(str, spec.shape))
        assert f"| `{field}` | [{shape}] | {spec.dtype} |" in metadata.description
    for config in builder.BUILDER_CONFIGS:
        assert f"`{config.name}`" in metadata.description


def test_there_is_no_package_that_would_shadow_others():
    assert not list(preparation.RECIPES.rglob("__init__.py"))
