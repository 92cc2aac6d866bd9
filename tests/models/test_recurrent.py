import keras
import numpy as np
import pytest
import tensorflow as tf
from link_samples import REGION, make_windows

from sionna_loc.checks import UserError
from sionna_loc.evaluation import evaluate
from sionna_loc.models.recurrent import Recurrent
from sionna_loc.registry import get_model_class

SMALL = {
    "hyploc": {"hyper_units": [8, 16]},
    "hyploc_set": {"units": 16, "hyper_units": 16},
    "mlp_plus": {"units": [32, 32]},
    "vinloc_links": {"num_blocks": 1, "mlp_units": 16},
}
LENGTHS = [4, 1, 3, 2]


def make(preset="hyploc_set", **options):
    keras.utils.set_random_seed(0)
    options = {"num_trps": 5, "window": 4, "units": 16, **options}
    built = Recurrent.from_preset(
        preset, region=REGION, sample_options=SMALL[preset], **options
    )
    built.adapt([make_windows(64, 4, 5)])
    return built


@pytest.fixture
def model():
    return make()


def pad(inputs, lengths, at_end):
    """Leave the last `lengths` samples of each window, the rest is nonsense."""
    window = inputs["trp_heard"].shape[1]
    padded = {"trp_mask": np.zeros(inputs["trp_heard"].shape, bool)}
    for name, values in inputs.items():
        padded[name] = np.full_like(values, 1 if values.dtype == bool else 1e3)
        for row, length in enumerate(lengths):
            there = slice(0, length) if at_end else slice(window - length, None)
            padded[name][row, there] = values[row, window - length :]
            padded["trp_mask"][row, there] = True
    return padded


def to_ragged(inputs, lengths):
    ragged = {}
    for name, values in inputs.items():
        window = values.shape[1]
        rows = [v[window - n :] for v, n in zip(values, lengths, strict=True)]
        flat = tf.RaggedTensor.from_tensor(np.concatenate(rows), ragged_rank=1)
        ragged[name] = tf.RaggedTensor.from_row_lengths(flat, lengths)
    return ragged


@pytest.mark.parametrize("preset", Recurrent.PRESETS)
def test_ragged_and_padded_windows_give_the_same(preset):
    model = make(preset)
    inputs, _ = make_windows(4, 4, 5, seed=1)
    expected = model.predict_on_batch(to_ragged(inputs, LENGTHS))["position"]
    for at_end in (True, False):
        found = model(pad(inputs, LENGTHS, at_end))["position"]
        np.testing.assert_allclose(found, expected, atol=5e-3)
    whole = model(inputs)["position"].numpy()
    assert np.abs(whole - expected).max(axis=1)[1:].min() > 1e-2  # cut off, they differ
    np.testing.assert_allclose(whole[0], expected[0], atol=5e-3)


def test_a_sample_by_itself_is_a_window_of_one(model):
    inputs, _ = make_windows(4, 1, 5, seed=1)
    alone = {name: values[:, 0] for name, values in inputs.items()}
    expected = model(inputs)["position"]
    np.testing.assert_allclose(model(alone)["position"], expected, atol=1e-3)


def test_the_estimate_begins_at_the_last_samples_place(model):
    for weight in model.head.layers[-1].trainable_weights:
        weight.assign(keras.ops.zeros_like(weight))
    inputs, _ = make_windows(4, 4, 5, seed=1)
    last = {name: values[:, -1] for name, values in inputs.items()}
    expected = model.sample_model(last)["position"]
    np.testing.assert_allclose(model(inputs)["position"], expected, atol=1e-3)


def test_what_was_before_counts_and_so_does_its_order(model):
    inputs, _ = make_windows(4, 4, 5, seed=1)
    before = model(inputs)["position"].numpy()
    for order in ([1, 0, 2, 3], [0, 0, 2, 3]):
        other = {name: values[:, order] for name, values in inputs.items()}
        after = model(other)["position"].numpy()
        assert np.abs(after - before).max(axis=1).min() > 1e-3


@pytest.mark.slow
def test_a_window_helps_where_samples_are_noisy():
    """Trained alike on the same, it is nearer than the model that sees the end only."""
    inputs, targets = make_windows(512, 4, 5, noise=8.0)
    test, truth = make_windows(256, 4, 5, seed=1, noise=8.0)
    last, test_last = (
        {name: values[:, -1] for name, values in x.items()} for x in (inputs, test)
    )
    recurrent = make()
    alone = get_model_class("hyploc_set").from_preset(
        region=REGION, **SMALL["hyploc_set"]
    )
    alone.adapt([(last, targets)])
    errors = []
    for model, given, shown in ((recurrent, inputs, test), (alone, last, test_last)):
        model.compile(keras.optimizers.Adam(3e-3), loss={"position": "mse"})
        model.fit(given, targets, epochs=25, batch_size=64, verbose=0)
        errors.append(evaluate(model, [(shown, truth)]).metrics["rmse"])
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize(
    "preset", ["hyploc", pytest.param("vinloc_links", marks=pytest.mark.slow)]
)
def test_every_weight_learns_from_ragged_windows(preset):
    model = make(preset)
    inputs, targets = make_windows(32, 4, 5)
    lengths = [1 + i % 4 for i in range(32)]
    dataset = tf.data.Dataset.from_tensors((to_ragged(inputs, lengths), targets))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile(keras.optimizers.Adam(1e-3), loss={"position": "mse"})
    losses = model.fit(dataset, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    for old, new in zip(before, model.trainable_weights, strict=True):
        assert np.abs(new.numpy() - old).max() > 1e-4, new.path


def test_evaluation_counts_what_the_last_sample_hears(model):
    inputs, targets = make_windows(4, 4, 5, seed=1)
    heard = inputs["trp_heard"][:, -1].sum(axis=1)
    assert len(set(heard)) > 1
    for given in (
        inputs,
        to_ragged(inputs, LENGTHS),
        pad(inputs, LENGTHS, at_end=True),
        pad(inputs, LENGTHS, at_end=False),
    ):
        found = evaluate(model, [(given, targets)])
        np.testing.assert_array_equal(found.num_trps_heard, heard)
        for trps, places, there in zip(
            found.trp_position,
            inputs["trp_position"][:, -1],
            inputs["trp_heard"][:, -1],
            strict=True,
        ):
            np.testing.assert_array_equal(trps, places[there])


def test_save_and_load_gives_the_same(tmp_path):
    model = make("hyploc", window=3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert (loaded.window, loaded.fixed_num_trps) == (3, 5)
    inputs, _ = make_windows(4, 3, 5, seed=1)
    np.testing.assert_array_equal(
        loaded.predict_on_batch(inputs)["position"],
        model.predict_on_batch(inputs)["position"],
    )


def test_samples_of_other_sizes_are_refused_in_windows_too():
    model = make("hyploc")
    inputs, _ = make_windows(4, 4, 6)
    with pytest.raises(UserError, match=r"takes 5 TRPs.*num_trps=6"):
        model.predict_on_batch(inputs)
    model.predict_on_batch(pad(make_windows(4, 4, 5)[0], LENGTHS, at_end=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0"),
        ({"units": 0}, "units=0"),
        ({"sample_model": "hyplok"}, "Did you mean 'hyploc'"),
        ({"sample_model": "vinloc"}, "of single samples.*sample_model='vinloc'"),
        ({"sample_model": "recurrent"}, "of single samples"),
        ({"sample_preset": "huge"}, "Unknown preset of HypLoc 'huge'"),
    ],
)
def test_what_cannot_be_is_one_clear_line(options, message):
    with pytest.raises(UserError, match=message):
        Recurrent(REGION, **options)
