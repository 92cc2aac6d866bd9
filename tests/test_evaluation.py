import keras
import numpy as np
import pytest
import tensorflow as tf

from sionna_loc.checks import UserError
from sionna_loc.evaluation import evaluate, evaluate_over_num_trps, metrics_table


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


def test_split_by_number_of_trps_heard():
    batches, _ = make_batches(padded=False)
    batches[1][1]["position"] += tf.constant([[0.0, 2.0, 0.0], [6.0, 8.0, 0.0]])
    groups = evaluate(MeanOfTRPs(), batches).by_num_trps_heard()
    assert list(groups) == [1, 2, 3]
    assert [groups[n]["num_samples"] for n in groups] == [2, 1, 2]
    assert groups[1]["mae"] == pytest.approx(5.0, rel=1e-5)
    assert groups[2]["rmse"] == pytest.approx(2.0, rel=1e-5)
    assert groups[3]["rmse"] == pytest.approx(0.0, abs=1e-4)
    table = metrics_table(groups, heading="heard").splitlines()
    assert table[0].split() == ["heard", "rmse", "mae", "p50", "p90", "p95", "samples"]
    assert table[2].split() == ["2", *["2.00"] * 5, "1"]


def test_empty_set_and_nan_are_refused():
    batches, _ = make_batches(padded=False)
    with pytest.raises(UserError, match="empty"):
        evaluate(MeanOfTRPs(), [])
    with pytest.raises(UserError, match=r"estimated position .* not_finite=5"):
        evaluate(MeanOfTRPs(offset=(0.0, float("nan"), 0.0)), batches)


class FrozenSets:
    """Stands for a scenario: the first `num_trps` TRPs of the five samples."""

    def frozen(self, split, num_samples, num_trps=None, batch_size=64):
        assert (split, num_samples, batch_size) == ("test", 5, 64)
        batches, _ = make_batches(padded=False)
        inputs, targets = batches[0]
        trps = inputs["trp_position"][:, :num_trps]
        return tf.data.Dataset.from_tensors({"trps": trps, **targets})


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
