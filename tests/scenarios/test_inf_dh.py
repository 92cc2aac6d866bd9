import numpy as np
import pytest

from sionna_loc import train
from sionna_loc.assembly import make_features
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data import frozen
from sionna_loc.features.cir_tokens import CirTokens
from sionna_loc.registry import get_scenario


@pytest.fixture(scope="module")
def small():
    return get_scenario("inf_dh", small=True)


@pytest.fixture(scope="module")
def test_set(small):
    return frozen.load(small, "test", 96)


def test_numbers_are_those_of_paper_and_study(small):
    full = get_scenario("inf_dh")
    assert full.num_train == 18_000
    assert (full.num_sites, full.num_trps, full.num_taps) == (18, 18, 256)
    assert (full.carrier_frequency, full.bandwidth) == (3.5e9, 100e6)
    assert full.sampling_rate == 100e6
    places = full.trp_position[np.lexsort(full.trp_position[:, 1::-1].T)]
    expected = [[x, y, 8] for x in range(10, 111, 20) for y in (10, 30, 50)]
    np.testing.assert_allclose(places, expected)
    assert get_scenario("inf_dh", num_train=0).num_train == 0


def test_without_correlation_there_is_no_place_to_know(small):
    assert small.is_one_place
    assert not get_scenario("inf_dh", small=True, autocorrelation="none").is_one_place


def test_every_ue_hears_all_trps_without_line_of_sight(small, test_set):
    assert (test_set["num_paths"] > 0).all()
    assert not test_set["los"].any()
    ue = test_set["ue_position"][:, None]
    distance = np.linalg.norm(ue - small.trp_position, axis=-1)
    exists = np.arange(small.num_paths) < test_set["num_paths"][..., None]
    delay = np.where(exists, test_set["path_delay"], np.inf).min(axis=-1)
    assert (delay * SPEED_OF_LIGHT > distance).all()


def test_ues_are_all_over_the_floor(test_set):
    ue = test_set["ue_position"]
    np.testing.assert_array_equal(ue[:, 2], 1.5)
    assert (ue[:, :2] >= 0).all() and (ue[:, :2] <= [120, 60]).all()
    # Of a uniform distribution, by 4 standard errors of the mean of 96.
    np.testing.assert_allclose(ue[:, :2].mean(axis=0), [60, 30], atol=14.2)
    assert np.ptp(ue[:, 0]) > 100 and np.ptp(ue[:, 1]) > 50


def test_the_taps_hold_nearly_all_of_the_energy(small, test_set):
    late = test_set["path_delay"] > (small.num_taps - 8) / small.sampling_rate
    power = np.abs(test_set["path_gain"]) ** 2
    assert (power * late).sum() < 1e-4 * power.sum()
    assert (np.abs(test_set["path_gain"]).max(axis=-1) > 0).all()


def test_test_and_training_samples_are_of_one_factory(small, test_set):
    again = small.channel(small.trp_position, test_set["ue_position"][:4], (9, 9))
    np.testing.assert_allclose(
        again["path_delay"], test_set["path_delay"][:4], atol=1e-11
    )
    other = get_scenario("inf_dh", small=True, factory=1)
    elsewhere = other.channel(small.trp_position, test_set["ue_position"][:4], (0, 0))
    assert np.abs(elsewhere["path_delay"] - again["path_delay"]).max() > 1e-9
    assert other.fingerprint() != small.fingerprint()


def test_training_passes_over_a_set_of_fixed_size_or_never_repeats(small):
    few = get_scenario("inf_dh", small=True, num_train=10)
    first = next(iter(few.batches(20)))["ue_position"].numpy()
    assert len(np.unique(first, axis=0)) == 10
    stream = get_scenario("inf_dh", small=True, num_train=0)
    batches = stream.batches(100).take(2)
    ues = np.concatenate([batch["ue_position"].numpy() for batch in batches])
    assert len(np.unique(ues, axis=0)) == 200
    assert stream.fingerprint() == few.fingerprint() == small.fingerprint()


def test_all_trps_in_their_order_or_a_subset_of_its_own_for_each_sample(small):
    batch = next(iter(small.batches(32)))["trp_position"]
    np.testing.assert_array_equal(batch.to_tensor()[5], small.trp_position)
    some = next(iter(small.batches(32, num_trps=15)))["trp_position"]
    assert set(some.row_lengths().numpy()) == {15}
    subsets = {frozenset(map(tuple, sample.numpy())) for sample in some}
    assert len(subsets) > 16  # 32 draws from 816 subsets


def test_taps_of_a_sample_are_those_of_its_paths(small):
    features = CirTokens(small.num_taps, small.sampling_rate, small.bandwidth)
    batch = next(iter(small.frozen("test", 96, fields=features.fields)))
    inputs, targets = features(batch)
    assert inputs["cir"].flat_values.shape == (64 * 18, 1, 256, 2)
    np.testing.assert_array_equal(targets["position"], batch["ue_position"])
    energy = np.square(inputs["cir"].flat_values).sum(axis=(1, 2, 3))
    power = np.square(np.abs(batch["path_gain"].flat_values)).sum(axis=1)
    # Paths interfere within a tap, but not on average over many links.
    assert np.mean(energy) == pytest.approx(np.mean(power), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": -1}, "num_train=-1"),
        ({"num_train": 2.5}, r"num_train=2\.5"),
        ({"ue_area": [[0, 0], [130, 60]]}, "must be in the hall of 120 m x 60 m"),
        ({"ue_area": [[0, -1], [10, 60]]}, "must be in the hall"),
        ({"ue_area": [[20, 0], [10, 60]]}, "lower and an upper corner"),
        ({"ue_area": "floor"}, "lower and an upper corner"),
        ({"factory": -1}, "seed=-1"),
        ({"line_of_sight": "some"}, "Unknown line of sight 'some'"),
        ({"snr_db": "high"}, "snr_db='high'"),
        ({"sampling_rate": 50e6}, "at least the bandwidth of 1e\\+08 Hz"),
        ({"trp_position_error": -1}, "trp_position_error=-1"),
        ({"ue_clock_offset": -1e-9}, "ue_clock_offset=-1e-09"),
        ({"correlation_distance": 0}, "large_scale=0"),
    ],
)
def test_bad_options_are_one_clear_line(options, message):
    with pytest.raises(UserError, match=message):
        get_scenario("inf_dh", small=True, **options)


def test_the_command_line_has_a_flag_for_the_size_of_the_training_set(capsys):
    parser = train.build_parser()
    words = ["--num-train", "6000", "--scenario-option", "factory=2"]
    options = parser.parse_args(words).scenario_options
    assert options == [("num_train", 6000), ("factory", 2)]
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--num-train", "many"])
    assert stop.value.code == 2
    assert "expected a whole number, received 'many'" in capsys.readouterr().err


@pytest.mark.parametrize("num_trps", [0, 19])
def test_fewer_than_one_or_more_than_18_trps_are_refused(small, num_trps):
    with pytest.raises(UserError, match=f"num_trps={num_trps}"):
        small.batches(4, num_trps=num_trps)
    with pytest.raises(UserError, match=f"num_trps={num_trps}"):
        small.frozen("test", 8, num_trps=num_trps)


def test_sets_without_samples_are_refused(small):
    with pytest.raises(UserError, match="num_samples=0"):
        small.frozen("test", 0)


def test_ues_can_be_kept_to_a_part_of_the_floor():
    part = get_scenario("inf_dh", small=True, ue_area=[[10, 20], [30, 40]])
    _, ue = part.positions((1, 2), 500)
    assert (ue.numpy()[:, :2].min(axis=0) >= [10, 20]).all()
    assert (ue.numpy()[:, :2].max(axis=0) <= [30, 40]).all()
    assert part.fingerprint() != get_scenario("inf_dh", small=True).fingerprint()


def test_snr_is_that_of_a_link_of_the_mean_gain(small):
    noisy = get_scenario("inf_dh", small=True, snr_db=20.0, trp_position_error=0.3)
    features = make_features(noisy)
    assert features.noise_power_db == -100
    assert features.trp_position_error == 0.3
    assert make_features(small).noise_power_db is None
    assert noisy.fingerprint() == small.fingerprint()  # the same paths
    batch = next(iter(noisy.frozen("test", 96, fields=features.fields)))
    gain = np.square(np.abs(batch["path_gain"].flat_values)).sum(axis=1)
    assert np.mean(10 * np.log10(gain)) == pytest.approx(-80, abs=1.5)
    late = features(batch)[0]["cir"].flat_values[:, 0, 200:]  # after all paths
    assert 10 * np.log10(np.square(late).sum(-1).mean()) == pytest.approx(-100, abs=0.3)


def test_sampling_and_correlation_are_options(small):
    fast = get_scenario("inf_dh", small=True, sampling_rate=200e6)
    assert make_features(fast).sampling_rate == 200e6
    rough = get_scenario("inf_dh", small=True, correlation_distance=1.0)
    consistency = rough.channel.consistency
    assert (consistency.large_scale, consistency.clusters) == (1.0, 1.0)
    assert len({s.fingerprint() for s in (small, fast, rough)}) == 3
