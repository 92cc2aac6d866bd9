import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from vinloc_samples import NUMBERS, SMALL, make, padded, ragged, samples

from sionna_loc.checks import UserError
from sionna_loc.losses import EuclideanDistance
from sionna_loc.models.vinloc import VInLoc

VARIANTS = {
    "refined": {"refiner_spacings": (2.0, 1.0), "num_blocks": 2},
    "plain": {"refiner_spacings": ()},
    "post_norm": {"norm": "post"},
    "linear": {"input_scaling": "linear"},
    "no_positions": {"use_trp_positions": False},
    "two_antennas": {"num_ant": 2},
    "images": {"refiner_images": 2, "refiner_spacings": (2.0, 1.0), "num_ant": 2},
    "angles": {
        "use_angles": True,
        "refiner_images": 2,
        "refiner_peaks": 3,
        "second_look_cells": 4,
        "num_ant": 2,
        "array_shape": (2, 1),
    },
    "map": {"map_cells": (2, 6), "map_units": 4, "refiner_spacings": (2.0, 1.0)},
    "gaussian": {"gaussian_head": True, "refiner_spacings": (2.0, 1.0)},
    "gaussian_no_positions": {"gaussian_head": True, "use_trp_positions": False},
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("variant", VARIANTS)
def test_forms_of_input_and_order_of_trps(variant):
    options = VARIANTS[variant]
    model = make(**options)
    data = samples(num_ant=options.get("num_ant", 1))
    expected = model(ragged(*data))["position"].numpy()
    assert np.ptp(expected, axis=0).min() > 1e-2  # Samples differ, so this can fail.
    for extra in (0, 1, 6):
        dense = padded(*data, extra=extra)
        np.testing.assert_allclose(model(dense)["position"], expected, atol=2e-3)
        order = np.random.default_rng(3).permutation(dense["cir"].shape[1])
        shuffled = {name: value[:, order] for name, value in dense.items()}
        np.testing.assert_allclose(model(shuffled)["position"], expected, atol=2e-3)
    swapped = padded(*data)
    swapped["cir"][0, [0, 1]] = swapped["cir"][0, [1, 0]]  # Only CIRs: another input.
    moved = model(swapped)["position"].numpy()
    if options.get("use_trp_positions", True):
        assert np.abs(moved - expected)[0].max() > 1e-2


def test_compiled_equals_eager():
    model, inputs = make(), ragged(*samples())
    compiled = model(inputs)
    tf.config.run_functions_eagerly(True)
    eagerly = model(inputs)
    tf.config.run_functions_eagerly(False)
    for name in ("position", "stages"):
        np.testing.assert_allclose(compiled[name], eagerly[name], atol=2e-3)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("num_trps", [1, 2, 17])
def test_any_number_of_trps(num_trps):
    outputs = make()(ragged(*samples([num_trps, num_trps])))
    assert outputs["position"].shape == (2, 3)
    assert np.isfinite(outputs["position"]).all()


@pytest.mark.usefixtures("eager")
def test_trp_positions_matter_only_where_they_are_used():
    cir, position, lengths = samples()
    moved = position + 10.0
    for use, changes in ((True, True), (False, False)):
        model = make(use_trp_positions=use)
        a = model(ragged(cir, position, lengths))["position"].numpy()
        b = model(ragged(cir, moved, lengths))["position"].numpy()
        assert (np.abs(a - b).max() > 1e-2) == changes


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("variant", VARIANTS)
def test_save_and_load(variant, tmp_path):
    options = VARIANTS[variant]
    model = make(**options)
    model.scaling.reference_db.assign(-91.5)
    inputs = ragged(*samples(num_ant=options.get("num_ant", 1)))
    expected = model(inputs)["position"].numpy()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    outputs = loaded(inputs)
    np.testing.assert_array_equal(outputs["position"], expected)
    assert ("covariance" in outputs) == options.get("gaussian_head", False)
    if "covariance" in outputs:
        covariance = model(inputs)["covariance"]
        np.testing.assert_array_equal(outputs["covariance"], covariance)
    model.save_weights(tmp_path / "model.weights.h5")
    other = make(seed=5, **options)
    assert np.abs(other(inputs)["position"].numpy() - expected).max() > 1e-2
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(inputs)["position"], expected)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("options", [{}, {"refiner_images": 2}, VARIANTS["angles"]])
def test_training_reaches_every_weight(options):
    model = make(**options)
    model.compile(keras.optimizers.Adam(1e-2), EuclideanDistance())
    data = samples((4, 4, 3, 2), num_ant=options.get("num_ant", 1), seed=1)
    target = {"position": np.array([[50, 0, 1.5]] * 4, "f")}
    dataset = tf.data.Dataset.from_tensors((ragged(*data), target)).repeat()
    before = [w.numpy().copy() for w in model.trainable_weights]
    history = model.fit(dataset, steps_per_epoch=5, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.abs(old - weight.numpy()).max() > 0, weight.path


def test_loss_is_the_mean_over_stages_only_while_training():
    model = make()
    model.compile(loss=EuclideanDistance())
    y = {"position": np.zeros((1, 3), "f")}
    outputs = {
        "position": np.array([[3.0, 4, 0]], "f"),
        "stages": np.array([[[0.0, 0, 7], [12, 0, 5]]], "f"),
    }
    loss = model.compute_loss(None, y, outputs, training=True)
    assert float(loss) == pytest.approx((5 + 7 + 13) / 3, rel=1e-5)
    loss = model.compute_loss(None, y, outputs, training=False)
    assert float(loss) == pytest.approx(5, rel=1e-5)


@pytest.mark.usefixtures("eager")
def test_covariance_depends_on_what_is_heard_not_on_its_form():
    model = make(gaussian_head=True)
    data = samples()
    expected = model(ragged(*data))["covariance"].numpy()
    assert expected.shape == (3, 3, 3)
    assert np.linalg.eigvalsh(expected).min() > 0
    assert np.ptp(expected, axis=0)[[0, 1, 2, 0], [0, 1, 2, 1]].min() > 1e-2
    dense = padded(*data, extra=2)
    order = np.random.default_rng(3).permutation(dense["cir"].shape[1])
    shuffled = {name: value[:, order] for name, value in dense.items()}
    found = model(shuffled)["covariance"]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_compiled_covariance_equals_eager():
    model, inputs = make(gaussian_head=True), ragged(*samples())
    compiled = model(inputs)["covariance"]
    tf.config.run_functions_eagerly(True)
    eagerly = model(inputs)["covariance"]
    tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(compiled, eagerly, rtol=2e-3, atol=1e-3)


def test_likelihood_beside_the_loss_of_the_position():
    """5 m off along x: 25 / (2 sigma^2) + log(sigma^3) + 1.5 log(2 pi)."""
    model = make(gaussian_head=True, likelihood_weight=0.5)
    model.compile(loss=EuclideanDistance())
    y = {"position": np.zeros((1, 3), "f")}
    outputs = {
        "position": np.array([[5.0, 0, 0]], "f"),
        "stages": np.array([[[0.0, 0, 7]]], "f"),
        "covariance": np.diag([4.0, 4, 4]).astype("f")[None],
    }
    likelihood = 25 / 8 + np.log(8) + 1.5 * np.log(2 * np.pi)
    loss = model.compute_loss(None, y, outputs, training=True)
    assert float(loss) == pytest.approx(6 + 0.5 * likelihood, rel=1e-5)
    loss = model.compute_loss(None, y, outputs, training=False)
    assert float(loss) == pytest.approx(5, rel=1e-5)


@pytest.mark.usefixtures("eager")
def test_likelihood_has_no_gradient_to_the_mean():
    """It reaches the covariance and what that is made of, not the output MLP."""
    data = samples((4, 4, 3, 2), seed=1)
    target = {"position": np.array([[50, 0, 1.5]] * 4, "f")}
    gradients = {}
    for weight in (0.0, 10.0):
        model = make(gaussian_head=True, likelihood_weight=weight)
        model.compile(loss=EuclideanDistance())
        with tf.GradientTape() as tape:
            outputs = model(ragged(*data), training=True)
            loss = model.compute_loss(None, target, outputs, training=True)
        parts = model.head, model.encoder, model._covariance_head
        variables = [part.trainable_weights[0].value for part in parts]
        gradients[weight] = tape.gradient(loss, variables, unconnected_gradients="zero")
    for part, without, with_it in zip(
        ("head", "encoder", "covariance"), gradients[0.0], gradients[10.0], strict=True
    ):
        same = np.allclose(without, with_it, rtol=1e-4, atol=1e-6)
        assert same == (part == "head"), part
        assert np.abs(without).max() > 0 or part == "covariance"


@pytest.mark.usefixtures("eager")
def test_training_reaches_every_weight_of_the_covariance():
    model = make(gaussian_head=True)
    model.compile(keras.optimizers.Adam(1e-2), EuclideanDistance())
    target = {"position": np.array([[50, 0, 1.5]] * 4, "f")}
    batch = ragged(*samples((4, 4, 3, 2), seed=1)), target
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    head = model._covariance_head
    before = [w.numpy().copy() for w in head.trainable_weights]
    model.fit(dataset, steps_per_epoch=3, verbose=0)
    assert len(before) == 4
    for old, weight in zip(before, head.trainable_weights, strict=True):
        assert np.abs(old - weight.numpy()).max() > 0, weight.path


def test_without_the_option_nothing_is_new():
    """Configurations from before the option make the model that they made."""
    config = make().get_config()
    assert config.pop("gaussian_head") is False and config.pop("likelihood_weight")
    assert config.pop("refiner_images") == 0
    old = VInLoc.from_config(config)
    for word in ("covariance", "isometry"):
        assert not any(word in weight.path for weight in old.weights)
    assert set(old(ragged(*samples()))) == {"position", "stages"}


def test_adapt_sets_the_reference_level():
    model = make()
    inputs = ragged(*samples())
    model.scaling.reference_db.assign(0.0)
    model.adapt([(inputs, None)])
    assert -95 < float(model.scaling.reference_db) < -85


def test_walls_are_sought_again_where_training_goes_on(monkeypatch):
    model, sought = make(refiner_images=2), []
    monkeypatch.setattr(
        model.images, "adapt_if_better", lambda *links: sought.append(links)
    )
    inputs = ragged(*samples())
    ue_position = np.ones((inputs["cir"].nrows(), 3), "f")
    model.remember([(inputs, {"position": ue_position})])
    ((power, trp_position, found),) = sought
    assert len(power) == len(trp_position) == len(found)
    np.testing.assert_array_equal(trp_position, inputs["trp_position"].flat_values)
    assert (found == 1).all()


def test_paper_preset_is_table_1():
    model = VInLoc.from_preset("paper", **{**NUMBERS, "num_taps": 256})

    def dense(*units):
        return sum(a * b + b for a, b in itertools.pairwise(units))

    def double(a, b):
        return 3 * a * b + b + 3 * b * b + b

    widths = (16, 32, 64, 128, 256)
    unet = sum(double(a, b) for a, b in zip((3, *widths), widths, strict=False))
    unet += sum(
        double(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
    )
    unet += dense(widths[0], 6)
    block = 2 * 2 * 512 + dense(512, 3 * 512) + dense(512, 512) + dense(512, 1024, 512)
    expected = (
        unet
        + dense(256 * 6, 256, 256)
        + dense(3, 256, 253)
        + 512  # [LOC] token
        + 4 * block
        + 2 * 512  # LayerNorm after the last block
        + dense(512, 256, 256, 256, 3)
    )
    assert sum(w.size for w in map(np.asarray, model.trainable_weights)) == expected
    assert len(model.unet.filters) - 1 == 4  # pooling layers
    assert not model._refiners


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VInLoc.from_preset("papr", **NUMBERS), "Did you mean 'paper'"),
        (lambda: VInLoc(**{**SMALL, "num_taps": 0}), "num_taps=0"),
        (lambda: VInLoc(**{**SMALL, "region": [0, 1]}), "region="),
        (lambda: make(unet_filters=5), "`unet_filters` must be a list"),
        (lambda: make(unet_filters="16,32"), "`unet_filters` must be a list"),
        (lambda: make(refiner_spacings=3), "`refiner_spacings` must be a list"),
        (lambda: make(refiner_spacings=["a"]), "spacing='a'"),
        (lambda: make(refiner_images=-1), "refiner_images=-1"),
        (lambda: make(position_units="a"), "position_units='a'"),
        (lambda: make(use_trp_positions="False"), "must be true or false"),
        (lambda: make(anchor_on_trps=0.5), "must be true or false"),
        (lambda: make(gaussian_head=1), "must be true or false"),
        (lambda: make(likelihood_weight=-1), "likelihood_weight=-1"),
        (lambda: make()({"cir": np.zeros((1, 1, 1, 32, 2))}), "inputs="),
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
