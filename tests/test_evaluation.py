import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.evaluation import (
    evaluate,
    evaluate_over_num_trps,
    metrics_table,
    with_links,
)


class MeanOfTRPs(keras.Model):
    """Puts the UE at the mean of its TRPs, plus `offset`."""

    def __init__(self, offset=(0.0, 0.0, 0.0), **kwargs):
        super().__init__(**kwargs)
        self.offset = offset

    def call(self, inputs):
        positions = inputs["trp_position"]
        if isinstance(positions, tf.RaggedTensor):
            mean = tf.reduce_mean(positions, axis=1)
        else:
            mask = tf.cast(inputs["trp_mask"], tf.float32)[..., None]
            mean = tf.reduce_sum(positions * mask, 1) / tf.reduce_sum(mask, 1)
        return {"position": mean + tf.constant(self.offset)}


class SureOfItself(MeanOfTRPs):
    """The same with the covariance of a round Gaussian of 10 m."""

    def call(self, inputs):
        position = super().call(inputs)["position"]
        covariance = tf.eye(3, batch_shape=[tf.shape(position)[0]]) * 100.0
        return {"position": position, "covariance": covariance}


LENGTHS = (1, 3, 3, 2, 1)


def make_batches(padded):
    """Five samples in two batches; the UE stands at the mean of its TRPs."""
    generator = np.random.default_rng(0)
    samples = [generator.uniform(0, 100, (n, 3)).astype("float32") for n in LENGTHS]
    batches = []
    for chosen in (samples[:3], samples[3:]):
        ragged = tf.RaggedTensor.from_row_lengths(
            np.concatenate(chosen), [len(s) for s in chosen]
        )
        inputs = {"trp_position": ragged}
        if padded:
            mask = tf.sequence_mask(ragged.row_lengths(), 4)
            dense = ragged.to_tensor(7.0, shape=[None, 4, 3])
            inputs = {"trp_position": dense, "trp_mask": mask}
        targets = {"position": tf.constant([s.mean(axis=0) for s in chosen])}
        batches.append((inputs, targets))
    return batches, samples


@pytest.mark.parametrize("padded", [False, True])
def test_evaluation_of_a_known_offset(padded):
    batches, samples = make_batches(padded)
    result = evaluate(MeanOfTRPs(offset=(3.0, 4.0, 12.0)), batches)
    np.testing.assert_allclose(result.errors, 5.0, rtol=1e-5)
    assert result.metrics["rmse"] == pytest.approx(5.0, rel=1e-5)
    assert result.metrics["mae_3d"] == pytest.approx(13.0, rel=1e-5)
    assert result.metrics["num_samples"] == 5
    np.testing.assert_array_equal(result.num_trps_heard, LENGTHS)
    for heard, sample in zip(result.trp_position, samples, strict=True):
        np.testing.assert_array_equal(heard, sample)


def test_a_density_is_compared_with_the_errors():
    """At 5 m the level in a Gaussian of 10 m is 1 - exp(-1 / 8): 0.118."""
    batches, _ = make_batches(padded=False)
    result = evaluate(SureOfItself(offset=(3.0, 4.0, 0.0)), batches)
    np.testing.assert_allclose(result.credible_level, 0.118, atol=0.06)
    assert result.metrics["coverage_50"] == 1.0
    promised = 10 * np.sqrt(np.pi / 2)
    assert result.metrics["expected_error"] == pytest.approx(promised, rel=0.05)
    assert result.metrics["nll"] == pytest.approx(np.log(200 * np.pi) + 1 / 8)
    far = evaluate(SureOfItself(offset=(30.0, 0.0, 0.0)), batches)
    assert far.metrics["coverage_50"] == far.metrics["coverage_95"] == 0.0
    plain = evaluate(MeanOfTRPs(), batches)
    assert plain.credible_level is None and "coverage_50" not in plain.metrics


class Nowhere(keras.Model):
    """Puts two UEs at the origin."""

    def call(self, inputs):
        return {"position": tf.zeros([2, 3])}


@pytest.mark.parametrize("padded", [False, True])
def test_of_a_window_the_last_sample_counts(padded):
    """Two samples of 3 TRPs each, with another before the second of them."""
    places = np.arange(27, dtype="f").reshape(3, 3, 3)
    heard = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 1]], bool)
    los = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0]], bool)

    def windows(values):
        rows = tf.RaggedTensor.from_tensor(values, ragged_rank=1)
        return tf.RaggedTensor.from_row_lengths(rows, [1, 2])

    inputs = {"trp_position": windows(places), "trp_heard": windows(heard)}
    if padded:  # behind the last sample of a window
        inputs = {name: values.to_tensor() for name, values in inputs.items()}
        inputs["trp_mask"] = np.array([[[1] * 3, [0] * 3], [[1] * 3] * 2], bool)
    links = {"los": windows(los), "trp_position": windows(places)}
    result = evaluate(Nowhere(), [(inputs, {"position": np.ones((2, 3))}, links)])
    assert result.num_trps_heard.tolist() == [2, 1]
    assert result.num_trps_los.tolist() == [1, 0]
    np.testing.assert_array_equal(result.trp_position[1], places[2, 2:])
    np.testing.assert_array_equal(result.los_trp_position[0], places[0, 2:])


class TwoPlaces(MeanOfTRPs):
    """Believes in two places, and hardly in a third."""

    def call(self, inputs):
        position = super().call(inputs)["position"]
        one = tf.ones_like(position[:, :1])
        rows = [
            tf.concat([np.log(weight) * one, position + away, *[one] * 3, 0 * one], -1)
            for weight, away in ((0.7, 0.0), (0.3, 20.0), (1e-9, 50.0))
        ]
        return {"position": position, "map": tf.stack(rows, axis=1)}


def test_maps_are_kept_where_asked_for():
    batches, _ = make_batches(padded=False)
    result = evaluate(TwoPlaces(), batches, keep_maps=True)
    assert [values.shape for values in result.maps] == [(2, 8)] * 5
    for values, true in zip(result.maps, result.true_position, strict=True):
        np.testing.assert_allclose(values[1, 1:4], true + 20, rtol=1e-5)
    assert evaluate(TwoPlaces(), batches).maps is None
    assert evaluate(SureOfItself(), batches, keep_maps=True).maps is None


def test_split_by_number_of_trps_heard():
    batches, _ = make_batches(padded=False)
    batches[1][1]["position"] += tf.constant([[0.0, 2.0, 0.0], [6.0, 8.0, 0.0]])
    groups = evaluate(MeanOfTRPs(), batches).by_num_trps_heard()
    assert list(groups) == [1, 2, 3]
    assert [groups[n]["num_samples"] for n in groups] == [2, 1, 2]
    assert groups[1]["mae"] == pytest.approx(5.0, rel=1e-5)
    assert groups[2]["rmse"] == pytest.approx(2.0, rel=1e-5)
    assert groups[3]["rmse"] == pytest.approx(0.0, abs=1e-4)
    assert groups[1]["squared_share"] == pytest.approx(100 / 104, rel=1e-5)
    assert groups[2]["squared_share"] == pytest.approx(4 / 104, rel=1e-5)
    table = metrics_table(groups, heading="heard").splitlines()
    names = ["rmse", "mae", "p50", "p90", "p95", "squared_share", "samples"]
    assert table[0].split() == ["heard", *names]
    assert table[2].split() == ["2", *["2.00"] * 5, "0.04", "1"]


LOS = ([True], [False, True, True], [False] * 3, [True, False], [False])
"""Lines of sight of the five samples: 1, 2, 0, 1 and 0 of them."""


def batches_with_links():
    """The five samples, those without a line of sight 3 m off, one with a line 1 m."""
    batches, samples = make_batches(padded=False)
    away = [[1.0, 0, 0], [0, 0, 0], [0, 3, 0]], [[0, 0, 0], [0, -3.0, 0]]
    found = []
    for k, (inputs, targets) in enumerate(batches):
        los = tf.ragged.constant([LOS[:3], LOS[3:]][k])
        links = {"los": los, "trp_position": inputs["trp_position"] + 50.0}
        targets = {"position": targets["position"] + tf.constant(away[k])}
        found.append((inputs, targets, links))
    return found, samples


def test_split_by_lines_of_sight():
    """Places are those of the links, not the inputs', which may be surveyed wrongly."""
    batches, samples = batches_with_links()
    result = evaluate(MeanOfTRPs(), batches)
    for found, sample, los in zip(result.los_trp_position, samples, LOS, strict=True):
        np.testing.assert_array_equal(found, sample[np.array(los)] + 50.0)
    assert result.num_trps_los.tolist() == [1, 2, 0, 1, 0]
    groups = result.by_num_trps_los()
    assert {n: group["num_samples"] for n, group in groups.items()} == {
        0: 2,
        1: 2,
        2: 1,
    }
    assert groups[0]["p50"] == pytest.approx(3.0, rel=1e-4)
    assert groups[1]["mae"] == pytest.approx(0.5, rel=1e-4)
    shares = [groups[n]["squared_share"] for n in (0, 1, 2)]
    np.testing.assert_allclose(shares, [18 / 19, 1 / 19, 0], atol=1e-5)
    plain = evaluate(MeanOfTRPs(), [batch[:2] for batch in batches])
    assert plain.los_trp_position is None and plain.by_num_trps_los() is None


def test_bounds_beside_the_errors():
    """Of the UE with two lines of sight at right angles: sqrt(2) of the deviation."""
    batches, _ = batches_with_links()
    result = evaluate(MeanOfTRPs(), batches)
    first, second = result.true_position[:2]
    result.los_trp_position[1] = second + np.array([[20.0, 0, 0], [0, -30, 0]])
    bounds = result.position_error_bounds(0.5)
    np.testing.assert_allclose(bounds, [np.inf, np.sqrt(0.5), *[np.inf] * 3])
    result.los_trp_position[0] = first + np.array([[0, 10.0, 0], [0, -30, 0]])
    groups = result.by_num_trps_los(0.5)
    assert groups[0]["bound_rms"] is groups[0]["bound_p50"] is None
    assert groups[2]["bound_rms"] is None  # one of them is in a line with its TRPs
    table = metrics_table(result.by_num_trps_los(0.5), heading="LoS").splitlines()
    assert table[0].split()[-3:] == ["bound_rms", "bound_p50", "samples"]
    assert table[1].split()[-3:] == ["inf", "inf", "2"]
    result.los_trp_position[0] = first + np.array([[20.0, 0, 0], [0, 30, 0]])
    result.los_trp_position[1] = second + np.array([[3.0, 0, 4], [0, 30, 0]])
    two = result.by_num_trps_los(0.5)[2]
    expected = 0.5 * np.sqrt([2, 25 / 9 + 1])
    assert two["bound_rms"] == pytest.approx(np.sqrt(np.mean(expected**2)))
    assert two["bound_p50"] == pytest.approx(expected.mean())
    assert "bound_rms" not in result.by_num_trps_los()[2]


def test_perfect_estimates_have_no_squared_error_to_share():
    generator = np.random.default_rng(0)
    trps = generator.integers(0, 9, (2, 2, 3)).astype("f")  # exact in float32
    batch = {"trp_position": trps, "trp_mask": np.ones((2, 2), bool)}
    exact = evaluate(MeanOfTRPs(), [(batch, {"position": trps.mean(axis=1)})])
    assert exact.by_num_trps_heard()[2]["squared_share"] == 0.0


def test_empty_set_and_nan_are_refused():
    batches, _ = make_batches(padded=False)
    with pytest.raises(UserError, match="empty"):
        evaluate(MeanOfTRPs(), [])
    with pytest.raises(UserError, match=r"estimated position .* not_finite=5"):
        evaluate(MeanOfTRPs(offset=(0.0, float("nan"), 0.0)), batches)


def test_links_are_no_inputs():
    """A model cannot see what the featurizer does not take."""

    def featurizer(batch):
        return {"trp_position": batch["trp_position"] + 1.0}, {}

    part = with_links(featurizer)
    trps = tf.zeros([2, 4, 3])
    inputs, targets, links = part({"trp_position": trps, "los": tf.ones([2, 4])})
    assert set(inputs) == {"trp_position"} and targets == {}
    assert float(tf.reduce_max(links["trp_position"])) == 0.0
    assert float(tf.reduce_min(links["los"])) == 1.0
    assert len(part({"trp_position": trps})) == 2


class FrozenSets:
    """Stands for a scenario: the first `num_trps` TRPs of the five samples."""

    def frozen(self, split, num_samples, num_trps=None, batch_size=125):
        assert (split, num_samples, batch_size) == ("test", 5, 125)
        batches, _ = make_batches(padded=False)
        inputs, targets = batches[0]
        trps = inputs["trp_position"][:, :num_trps]
        return tf.data.Dataset.from_tensors({"trps": trps, **targets})


class DrawnSets:
    """Stands for a scenario that can say which links are in line of sight."""

    def __init__(self, holds_inputs):
        self.holds_inputs = holds_inputs

    def frozen(self, split, num_samples, num_trps=None, batch_size=64, fields=None):
        batches, _ = make_batches(padded=False)
        inputs, targets = batches[0]
        drawn = {"los": tf.ragged.constant(LOS[:3]), **inputs}
        batch = {name: drawn[name] for name in fields if name in drawn}
        return tf.data.Dataset.from_tensors(
            {**batch, "ue_position": targets["position"]}
        )


@pytest.mark.parametrize("measured", [False, True])
def test_drawn_samples_know_their_lines_of_sight(measured):
    class Featurizer:
        fields = ("trp_position", "ue_position")

        def __call__(self, batch):
            inputs = {k: v for k, v in batch.items() if k == "trp_position"}
            return inputs, {"position": batch["ue_position"]}

    scenario = DrawnSets(holds_inputs=measured)
    results = evaluate_over_num_trps(MeanOfTRPs(), scenario, Featurizer(), [3], 3)
    numbers = results[3].num_trps_los
    assert numbers is None if measured else numbers.tolist() == [1, 2, 0]


def test_evaluate_over_num_trps_asks_for_each_count():
    def featurizer(batch):
        return {"trp_position": batch["trps"]}, {"position": batch["position"]}

    results = evaluate_over_num_trps(MeanOfTRPs(), FrozenSets(), featurizer, [3, 1], 5)
    assert list(results) == [3, 1]
    assert results[1].num_trps_heard.tolist() == [1, 1, 1]
    assert results[3].metrics["rmse"] < 1e-4 < results[1].metrics["rmse"]
    metrics = {count: result.metrics for count, result in results.items()}
    table = metrics_table(metrics, heading="TRPs").splitlines()
    assert table[0].split()[:3] == ["TRPs", "rmse", "mae"]
    assert table[2].split()[1] == f"{results[1].metrics['rmse']:.2f}"
    wide = metrics_table(metrics, intervals=True)
    lower, upper = results[1].metrics["intervals"]["p90"]
    assert f"[{lower:.2f}, {upper:.2f}]" in wide
    with pytest.raises(UserError, match="counts"):
        evaluate_over_num_trps(MeanOfTRPs(), FrozenSets(), featurizer, [], 5)
