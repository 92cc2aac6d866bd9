import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from free_space_links import NUMBERS, TRP, batches, grid, links

from sionna_loc.antennas import PlanarArray
from sionna_loc.calibration import examine
from sionna_loc.checks import UserError
from sionna_loc.losses import EuclideanDistance
from sionna_loc.models.backprojection import BackProjectionLocalizer
from sionna_loc.recipes import RECIPES

SMALL = {
    **NUMBERS,
    "num_cells": 8,
    "num_candidates": 3,
    "divisions": (2,),
    "evidence_units": 8,
    "evidence_window": 5,
    "coarse_channels": 4,
    "fine_channels": 4,
    "grid_units": 8,
    "grid_blocks": 1,
    "cell_channels": 4,
    "refiner_units": 8,
}
VARIANTS = {
    "map": {},
    "agnostic": {"use_map": False},
    "features_alone": {"view_rank": 0},
    "views_alone": {"map_units": 0},
    "divided_twice": {"divisions": (2, 3), "num_candidates": (3, 5)},
    "coarse_only": {"divisions": ()},
    "median": {"estimate": "median"},
    "mode": {"estimate": "mode"},
    "two_antennas": {"num_ant": 2},
    "without_angles": {"num_ant": 2, "use_angles": False},
    "condition": {"condition_units": 16, "condition_blocks": 1},
    "images": {"num_images": 2},
    "image_ranges": {"num_images": 2, "image_ranges": 1},
    "ranges_and_antennas": {"num_images": 2, "image_ranges": 2, "num_ant": 2},
    "level": {"finds_height": False},
}
MIRROR, NOWHERE = [[-1, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]  # at x = 0
UE = grid(7.0)[:5]


def make(seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = BackProjectionLocalizer(**{**SMALL, **options})
    for weight in model.trainable_weights:  # Zero-initialised heads would hide errors.
        weight.assign_add(keras.random.normal(weight.shape, stddev=0.1))
    model.scaling.reference_db.assign(-20.0)
    if model.images is not None:
        model.images.isometry.assign([MIRROR] * model.num_images)
    return model


def inputs_of(variant, ue=UE, trps=None):
    array = PlanarArray(1, VARIANTS[variant].get("num_ant", 1))
    return links(ue, trps, array)


@pytest.fixture
def eager():
    """Without compilation, where many models are called a few times each."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_map_is_a_density_around_the_position(variant):
    model = make(**VARIANTS[variant])
    outputs = model(inputs_of(variant))
    values = np.asarray(outputs["map"])
    # 4 x 8 cells, 3 of which are divided, and 3 or 5 of their parts.
    num_divided = [3, VARIANTS[variant].get("num_candidates", [3, 3])[-1]]
    num_divided = num_divided[: len(model.divisions)]
    parts = sum(n * k**2 for n, k in zip(num_divided, model.divisions, strict=True))
    assert values.shape == (5, 32 + parts, 8)
    weight = np.exp(values[..., 0])
    np.testing.assert_allclose(weight.sum(axis=1), 1, rtol=1e-4)
    gone = (weight < 1e-30).sum(axis=1)  # those that their parts speak for
    np.testing.assert_array_equal(gone, sum(num_divided))
    assert (values[..., 4:7] > 0).all() and (np.abs(values[..., 7]) < 1).all()
    mean = (weight[..., None] * values[..., 1:4]).sum(axis=1)
    position = np.asarray(outputs["position"])
    if variant in ("median", "mode"):
        assert np.abs(position - mean)[:, :2].max() > 0.1
        trained = model(inputs_of(variant), training=True)["position"]
        np.testing.assert_allclose(trained, mean, atol=1e-3)
    else:
        np.testing.assert_allclose(position, mean, atol=1e-3)
    covariance = np.asarray(outputs["covariance"])
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.ptp(position, axis=0)[:2].min() > 1e-2  # UEs differ


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("variant", VARIANTS)
def test_save_and_load(variant, tmp_path):
    model, inputs = make(**VARIANTS[variant]), inputs_of(variant)
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    found = loaded(inputs)
    for name in ("position", "covariance", "map"):
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("options", "shift"),
    [
        ({}, [300, -120, 0]),
        ({"condition_units": 16}, [300, -120, 0]),
        ({"num_images": 2, "image_ranges": 2}, [300, -120, 0]),
        ({"num_images": 2, "image_ranges": 2}, [60e3, -50e3, 0]),
    ],
)
def test_without_a_map_the_weights_serve_any_region(options, shift):
    """They are not of cells, and a region that is moved is the same region."""
    shift = np.array(shift, "f")
    moved = (np.asarray(NUMBERS["region"]) + shift).tolist()
    options = {"use_map": False, **options}
    here, there = make(**options), make(**options, region=moved, seed=1)
    there.set_weights(here.get_weights())
    if here.images is not None:  # of two there is one, and that moves, too
        wall = np.array(MIRROR, "f")
        for model, move in ((here, 0 * shift), (there, shift)):
            wall[0, 2] = 2 * move[0]
            model.images.isometry.assign([wall, 0 * wall])
    inputs = links(UE)
    expected = np.asarray(here(inputs)["position"])
    inputs["trp_position"] = inputs["trp_position"] + shift
    assert np.abs(there(inputs)["position"] - expected).max() > 100
    np.testing.assert_allclose(there(inputs)["position"] - shift, expected, atol=0.05)
    square = [[0, 0, 0], [40, 40, 3]]
    make(**options, region=square).set_weights(here.get_weights())
    with pytest.raises(ValueError, match="shape"):
        make(region=square).set_weights(make().get_weights())


@pytest.mark.usefixtures("eager")
def test_few_taps_are_enough():
    """Fewer than are looked at around a tap, and than there may be peaks."""
    options = {"num_taps": 5, "evidence_window": 15, "num_images": 2, "image_ranges": 1}
    inputs = {**links(UE), "cir": links(UE)["cir"][:, :, :, 4:9]}
    outputs = make(**options)(inputs)
    assert np.isfinite(outputs["map"]).all()


@pytest.mark.usefixtures("eager")
def test_a_model_of_before_arguments_came_does_without():
    model = make(num_ant=2, use_angles=False, finds_height=False)
    config = model.get_config()
    for name in (
        *("use_angles", "array_spacing", "condition_units", "condition_blocks"),
        *("num_images", "seeks_walls", "finds_height", "view_rank"),
    ):
        del config[name]
    old = BackProjectionLocalizer.from_config(config)
    old.set_weights(model.get_weights())
    inputs = inputs_of("two_antennas")
    np.testing.assert_array_equal(old(inputs)["map"], model(inputs)["map"])
    new = make(num_ant=2)
    assert new.count_params() > old.count_params()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "variant",
    [
        "map",
        pytest.param("two_antennas", marks=pytest.mark.slow),
        "condition",
        "images",
        "image_ranges",
    ],
)
def test_training_reaches_every_weight(variant):
    model = make(**VARIANTS[variant])
    model.compile(
        keras.optimizers.Adam(1e-2),
        {"position": EuclideanDistance()},
        jit_compile=False,
    )
    batch = (inputs_of(variant), {"position": UE})
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    before = [w.numpy().copy() for w in model.trainable_weights]
    history = model.fit(dataset, steps_per_epoch=5, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.abs(old - weight.numpy()).max() > 0, weight.path


@pytest.mark.usefixtures("eager")
def test_loss_is_the_likelihood_of_all_stages_only_while_training():
    model = make(position_weight=0.25)
    model.compile(loss={"position": EuclideanDistance()})
    outputs = model(links(UE), training=True)
    y = {"position": UE}
    distance = np.linalg.norm(np.asarray(outputs["position"]) - UE, axis=-1).mean()
    maps = [*outputs["stages"], outputs["map"]]
    assert [m.shape[1] for m in maps] == [32, 44]
    logs = [examine_3d(m) for m in maps]
    loss = model.compute_loss(None, y, outputs, training=True)
    expected = 0.25 * distance - np.mean(logs)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    loss = model.compute_loss(None, y, outputs, training=False)
    assert float(loss) == pytest.approx(distance, rel=1e-5)


def examine_3d(values):
    """Mean log-density [1/m^3] of the UEs: horizontal, and the height's Gaussian."""
    values = np.asarray(values, dtype=float)
    outputs = {"position": UE, "map": values}
    flat = examine(outputs, UE, np.random.default_rng(0), num_draws=1).log_density
    z = (UE[:, 2] - values[:, 0, 3]) / values[:, 0, 6]
    height = -0.5 * z**2 - np.log(values[:, 0, 6]) - 0.5 * np.log(2 * np.pi)
    return np.mean(flat + height)


def behind_the_mirror(ue):
    """What UEs hear by reflection alone: of TRPs on the other side of x = 0."""
    inputs = links(ue)
    return {**inputs, "trp_position": inputs["trp_position"] * [-1.0, 1.0, 1.0]}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("layer", ["cell_agreement", "part_agreement"])
def test_how_well_paths_agree_reaches_the_answer(layer, monkeypatch):
    model, inputs = make(num_images=2), behind_the_mirror(UE)
    before = np.asarray(model(inputs)["position"])
    plain = getattr(model, layer)
    monkeypatch.setattr(model, layer, lambda *links, side: 0 * plain(*links, side=side))
    after = np.asarray(model(inputs)["position"])
    assert np.linalg.norm(after - before, axis=-1).min() > 1e-4


def test_compiled_training_with_walls_divides_more_than_once():
    """XLA has no gradient for the loop over the images."""
    model = make(num_images=1, divisions=(2, 2))
    model.compile(
        keras.optimizers.Adam(1e-2),
        {"position": EuclideanDistance()},
        jit_compile=False,
    )
    loss = model.train_on_batch(behind_the_mirror(UE), {"position": UE})
    assert np.isfinite(loss)


@pytest.mark.usefixtures("eager")
def test_a_model_of_many_places_finds_walls_where_it_goes_on(monkeypatch):
    model, sought = make(num_images=1, seeks_walls=False), []
    for name in ("adapt", "adapt_if_better"):
        note = functools.partial(lambda *call: sought.append(call), name)
        monkeypatch.setattr(model.images, name, note)
    model.adapt(batches(UE, 2))
    assert sought == [] and model.scaling.reference_db.numpy() != -20
    model.remember(batches(UE, 2))
    ((name, power, trp_position, ue_position),) = sought
    assert name == "adapt_if_better" and power.shape == (20, NUMBERS["num_taps"])
    np.testing.assert_array_equal(trp_position, np.tile(TRP, (len(UE), 1)))
    np.testing.assert_array_equal(ue_position, np.repeat(UE, 4, axis=0))
    model.images.isometry.assign([MIRROR])
    model.forget()
    assert np.abs(np.asarray(model.images(TRP))).max() > 5e4
    make().remember(batches(UE, 2))  # has no walls to find
    make().forget()


@pytest.mark.usefixtures("eager")
def test_walls_are_sought_in_what_is_heard_at_known_positions(monkeypatch):
    model, sought = make(num_images=1), []
    monkeypatch.setattr(model.images, "adapt", lambda *links: sought.extend(links))
    model.adapt(batches(UE, 2))
    power, trp_position, ue_position = sought
    assert power.shape == (4 * len(UE), NUMBERS["num_taps"])
    np.testing.assert_array_equal(trp_position, np.tile(TRP, (len(UE), 1)))
    np.testing.assert_array_equal(ue_position, np.repeat(UE, 4, axis=0))
    level = float(model.scaling.reference_db.numpy())
    plain = make()
    plain.adapt(batches(UE, 2))
    assert level == pytest.approx(float(plain.scaling.reference_db.numpy()), abs=0.1)


def test_learns_to_locate_and_how_sure_it_is():
    """Far below a tap's 3 m, and with regions that hold about what they say."""
    options = {"grid_units": 16, "refiner_units": 16, "evidence_units": 16}
    keras.utils.set_random_seed(0)
    model = BackProjectionLocalizer(**{**SMALL, **options, "use_map": False})
    rng = np.random.default_rng(0)
    ue = rng.uniform([1, 1, 1.5], [39, 19, 1.5], (600, 3)).astype("f")
    trps = [rng.choice(len(TRP), 3 + k % 2, replace=False) for k in range(len(ue))]
    seen = batches(ue[:480], 16, trps[:480])
    inputs, targets = batches(ue[480:], 120, trps[480:])[0]
    model.adapt(seen)
    model.compile(
        keras.optimizers.Adam(5e-3),
        {"position": EuclideanDistance()},
        jit_compile=False,
    )

    def judge():
        outputs = model.predict_on_batch(inputs)
        belief = examine(outputs, targets["position"], np.random.default_rng(0))
        error = np.linalg.norm(outputs["position"] - targets["position"], axis=-1)
        return error.mean(), belief.metrics()

    before, _ = judge()
    for _ in range(6):
        for batch in seen:
            model.train_on_batch(*batch)
    error, metrics = judge()
    assert before > 8
    assert error < 1.1
    assert metrics["expected_error"] == pytest.approx(error, rel=0.5)
    assert 0.75 < metrics["coverage_90"] <= metrics["coverage_95"]


@pytest.mark.slow
def test_with_an_array_one_trp_is_enough():
    """Its delay alone leaves a circle, on which errors are 4 m and more."""
    options = {"grid_units": 16, "refiner_units": 16, "evidence_units": 16}
    array = PlanarArray(2, 2)
    keras.utils.set_random_seed(0)
    model = BackProjectionLocalizer(
        **{**SMALL, **options, "num_ant": 4, "array_shape": (2, 2), "use_map": False}
    )
    rng = np.random.default_rng(0)
    ue = rng.uniform([1, 1, 1.5], [39, 19, 1.5], (420, 3)).astype("f")
    trps = rng.integers(len(TRP), size=(len(ue), 1))
    seen = batches(ue[:320], 16, trps[:320], array)
    inputs, targets = batches(ue[320:], 100, trps[320:], array)[0]
    model.adapt(seen)
    model.compile(
        keras.optimizers.Adam(5e-3),
        {"position": EuclideanDistance()},
        jit_compile=False,
    )
    for _ in range(6):
        for batch in seen:
            model.train_on_batch(*batch)
    found = model.predict_on_batch(inputs)["position"]
    assert np.linalg.norm(found - targets["position"], axis=-1).mean() < 2


def test_presets_and_recipe():
    numbers = {k: v for k, v in NUMBERS.items() if k != "num_taps"}
    compact, agnostic = (
        BackProjectionLocalizer.from_preset(name, num_taps=64, **numbers)
        for name in ("compact", "agnostic")
    )
    assert compact.use_map and not agnostic.use_map
    assert compact.seeks_walls and not agnostic.seeks_walls
    assert BackProjectionLocalizer.default_recipe in RECIPES
    assert compact.count_params() > agnostic.count_params() + 1000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make(num_cells=0), "num_cells=0"),
        (lambda: make(num_images=-1), "num_images=-1"),
        (lambda: make(image_ranges=-1), "image_ranges=-1"),
        (lambda: make(seeks_walls=1), "`seeks_walls` must be true or false"),
        (lambda: make(num_candidates=40), "32 cells"),
        (lambda: make(num_candidates=(3, 28), divisions=(3, 2)), "27 cells"),
        (lambda: make(num_candidates=(3, 2)), "one for each of `divisions`"),
        (lambda: make(num_candidates=(0,)), "num_candidates=0"),
        (lambda: make(num_candidates="8"), "`num_candidates` must be a whole number"),
        (lambda: make(num_candidates=-5, divisions=()), "num_candidates=-5"),
        (lambda: make(divisions=4), "`divisions` must be a list"),
        (lambda: make(divisions=(0,)), "divisions=0"),
        (lambda: make(fine_channels=1), "fine_channels=1"),
        (lambda: make(estimate="best"), "Known: mean, median, mode"),
        (lambda: make(use_map="yes"), "must be true or false"),
        (lambda: make(map_units=-1), "map_units=-1"),
        (lambda: make(view_rank=0.5), "`view_rank` must be a whole number"),
        (lambda: make(finds_height=0), "`finds_height` must be true or false"),
        (lambda: make(position_weight=-1), "position_weight=-1"),
        (lambda: make(num_ant=2, array_shape=(2, 2)), "array_shape="),
        (lambda: make(num_ant=2, array_spacing=0), "array_spacing=0"),
        (lambda: make(use_angles=1), "`use_angles` must be true or false"),
        (
            lambda: make(condition_units=20),
            "`condition_units` must be a multiple of 16",
        ),
        (lambda: make(condition_units=-16), "condition_units=-16"),
        (
            lambda: make(condition_units=16.5),
            "`condition_units` must be a whole number",
        ),
        (
            lambda: make(condition_units="32"),
            "`condition_units` must be a whole number",
        ),
        (lambda: make(condition_blocks=0), "condition_blocks=0"),
        (
            lambda: make()(
                {"cir": np.zeros((1, 1, 1, 16, 2)), "trp_position": np.zeros((1, 1, 3))}
            ),
            "cir_shape=",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
