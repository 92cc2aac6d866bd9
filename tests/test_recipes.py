import math
from unittest import mock

import pytest

from sionna_loc.checks import UserError
from sionna_loc.recipes import RECIPES, Recipe, RunConfig


def test_paper_recipe_is_the_papers():
    recipe = RECIPES["paper"]
    assert (recipe.weight_decay, recipe.beta_1) == (0.1, 0.99)
    assert (recipe.batch_size, recipe.epochs) == (16, 600)
    assert recipe.warmup == 0 and recipe.clip_norm is None
    assert recipe.learning_rate_at(0.0, 0.0) == 4e-4
    assert recipe.learning_rate_at(0.5, 0.99) == 4e-4
    assert recipe.learning_rate_at(0.5, 10.2) == pytest.approx(4e-4 * 0.993**10)


def test_hyplocs_rate_falls_by_4_percent_every_10_000_samples():
    recipe = RECIPES["hyploc"]
    assert recipe.epochs == 30 and recipe.weight_decay == 0
    rates = [recipe.learning_rate_at(0.9, 25.0, n) for n in (0, 9_999, 10_000, 35_000)]
    assert rates == pytest.approx([1e-3, 1e-3, 0.96e-3, 0.96**3 * 1e-3])


@pytest.mark.parametrize("num_constellations", [1, 10])
def test_hyplocs_rate_falls_alike_with_one_constellation_and_with_ten(
    num_constellations,
):
    from sionna_loc.assembly import make_recipe

    scenario = mock.Mock(
        num_train=22_775, subsets_per_ue=num_constellations, num_val=1, num_test=1
    )
    config = RunConfig().resolved("p", 7, "hyploc", scenario)
    samples = config.steps * config.batch_size
    assert samples == pytest.approx(30 * 22_775 * num_constellations, rel=1e-4)
    recipe = make_recipe(config, scenario)
    end = recipe.learning_rate_at(1.0, 30.0, samples)
    assert end == pytest.approx(1e-3 * 0.96**68)
    third = recipe.learning_rate_at(1 / 3, 10.0, samples // 3)
    assert third == pytest.approx(1e-3 * 0.96**22)


def test_a_smoke_run_takes_no_more_samples_than_there_are():
    import types

    few = types.SimpleNamespace(num_train=30, num_val=5, num_test=12)
    small = RunConfig(small=True).resolved("p", 4, scenario=few)
    assert (small.num_val, small.num_test) == (5, 12)
    asked = RunConfig(small=True, num_val=50).resolved("p", 4, scenario=few)
    assert (asked.num_val, asked.num_test) == (50, 12)  # the set says what is wrong
    many = types.SimpleNamespace(num_train=0, num_val=1000, num_test=2000)
    small = RunConfig(small=True).resolved("p", 4, scenario=many)
    assert (small.num_val, small.num_test) == (32, 64)


@pytest.mark.parametrize(("num_train", "expected"), [(100, 50_000), (0, 10_000)])
def test_only_the_samples_of_a_training_sets_ue_count_as_one(num_train, expected):
    import types

    from sionna_loc.assembly import make_recipe

    scenario = types.SimpleNamespace(num_train=num_train, subsets_per_ue=5)
    config = resolved(recipe="hyploc")
    assert make_recipe(config, scenario).decay_samples == expected


def test_cosine_warms_up_and_ends_at_zero():
    recipe = Recipe(learning_rate=2.0, batch_size=1, warmup=0.1)
    rates = [recipe.learning_rate_at(p, 0) for p in (0, 0.05, 0.1, 0.55, 1)]
    assert rates == pytest.approx([0, 1, 2, 1, 0])
    assert recipe.learning_rate_at(0.325, 7) == pytest.approx(1 + math.sqrt(0.5))


def test_a_warm_up_has_its_steps_but_no_more_than_half_of_the_run():
    recipe = Recipe(learning_rate=2.0, batch_size=4, warmup=0.1, warmup_steps=50)
    plain = Recipe(learning_rate=2.0, batch_size=4, warmup=0.1)

    def rates(progress, *steps):
        return [recipe.learning_rate_at(progress, 0.0, 4 * step) for step in steps]

    late = plain.learning_rate_at(0.2, 0.0)  # most of the warm-up was compilation
    assert rates(0.2, 0, 25, 50, 80) == pytest.approx(
        [0.4 * late, 0.5 * late, late, late]
    )
    assert rates(0.05, 50) == [1.0] and rates(0.0, 50) == [0.0]
    assert rates(0.5, 3) == [plain.learning_rate_at(0.5, 0.0)]  # few steps in all


def test_optimizers_follow_the_recipe():
    from sionna_loc.assembly import make_optimizer

    paper = make_optimizer(RECIPES["paper"])
    assert paper.weight_decay == 0.1 and paper.beta_1 == 0.99
    assert paper.global_clipnorm is None
    default = make_optimizer(RECIPES["default"])
    assert default.global_clipnorm == RECIPES["default"].clip_norm


def resolved(**options):
    return RunConfig(**options).resolved(preset="p", num_trps=12)


def test_recipe_gives_the_defaults():
    config = resolved(recipe="paper")
    assert (config.batch_size, config.num_trps, config.preset) == (16, 12, "p")
    assert config.steps == 600 * 18_000 / 16 and config.max_minutes is None
    default = resolved()
    assert default.steps is None and default.max_minutes > 0


def test_what_is_given_wins():
    assert resolved(epochs=0.5, batch_size=7).steps == math.ceil(9000 / 7)
    only_time = resolved(recipe="paper", max_minutes=3)
    assert only_time.steps is None and only_time.max_minutes == 3
    both = resolved(steps=5, max_minutes=3)
    assert (both.steps, both.max_minutes) == (5, 3)
    small = resolved(small=True, num_test=5)
    assert small.steps == 20 and small.num_test == 5 and small.num_val == 32


def test_the_scenarios_sets_and_the_models_recipe_are_the_defaults():
    scenario = mock.Mock(num_train=500, subsets_per_ue=3, num_val=40, num_test=70)
    config = RunConfig().resolved("p", 7, "hyploc", scenario)
    assert (config.recipe, config.epoch_size) == ("hyploc", 1500)
    assert (config.num_val, config.num_test) == (40, 70)
    assert config.steps == math.ceil(30 * 1500 / 32)
    given = RunConfig(recipe="paper", epoch_size=100, num_test=5, epochs=2)
    config = given.resolved("p", 7, "hyploc", scenario)
    assert (config.recipe, config.num_test, config.steps) == ("paper", 5, 13)
    assert resolved().epoch_size == 18_000


def test_round_trip():
    config = RunConfig(seed=3, epochs=2.5, model_options={"a": [1, 2]})
    assert RunConfig.from_dict(config.to_dict()) == config


def test_a_configuration_of_another_version():
    values = RunConfig().to_dict()
    with pytest.raises(UserError, match=r"missing=\['seed'\], unknown=\['sead'\]"):
        RunConfig.from_dict(
            {**{k: v for k, v in values.items() if k != "seed"}, "sead": 1}
        )
    with pytest.raises(UserError, match="Unknown recipe"):
        RunConfig.from_dict({**values, "recipe": ["default"]})
    with pytest.raises(UserError, match="`model_options` must be a dict"):
        RunConfig.from_dict({**values, "model_options": 3})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "papr"}, "Did you mean 'paper'"),
        ({"num_trps": 0}, "num_trps=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"steps": -1}, "steps=-1"),
        ({"epochs": math.inf}, "epochs=inf"),
        ({"max_minutes": math.nan}, "max_minutes=nan"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"seed": -1}, "seed=-1"),
        ({"num_test": 0}, "num_test=0"),
        ({"steps": 1, "epochs": 1.0}, "not both"),
    ],
)
def test_impossible_values(options, message):
    with pytest.raises(UserError, match=message):
        RunConfig(**options)
