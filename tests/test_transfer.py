"""A run's model in another scenario: the same errors, wherever that lies."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tiny_training

from sionna_loc import adapt, evaluate, evaluation, registry, saving, training
from sionna_loc.recipes import RunConfig
from sionna_loc.sample import FIELDS
from sionna_loc.scenarios.moved import Moved
from sionna_loc.transfer import with_scenario

AWAY = np.array([1000.0, -300.0, 0.0], np.float32)


class FarAway(tiny_training.FreeSpace):
    """The same samples a kilometre away."""

    name = "far_away"
    region = tiny_training.FreeSpace.region + AWAY
    num_test = 16

    def _sample(self, seed, num_trps):
        sample = super()._sample(seed, num_trps)
        moved = {n: sample[n] + AWAY for n in ("trp_position", "ue_position")}
        return {**sample, **moved}


class Wider(FarAway):
    """UEs in a box that is wider than that of the model."""

    name = "wider"
    region = FarAway.region * [[1, 1, 1], [2, 1, 1]]


class Higher(FarAway):
    """UEs above all heights that the model looks at."""

    name = "higher"
    region = np.add(FarAway.region, [0, 0, 11])


class OtherTaps(FarAway):
    """CIRs that the model does not know."""

    name = "other_taps"
    num_taps = 16


class OtherBand(FarAway):
    """CIRs of another bandwidth at the same rate."""

    name = "other_band"
    bandwidth = 50e6


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: None)
    with tiny_training.registered():
        for one in (FarAway, Wider, Higher, OtherTaps, OtherBand):
            registry.SCENARIOS[one.name] = f"{__name__}:{one.__name__}"
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = RunConfig(
        scenario="free_space", model="tiny", steps=4, batch_size=4, num_val=8,
        num_test=16, num_trps=4, baseline=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "run"
    with tiny_training.registered(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "save_figures", lambda *arguments: None)
        return training.fit(config, folder, device="cpu", quiet=True)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, to write into."""
    return shutil.copytree(trained, tmp_path / "run")


def test_errors_are_those_of_the_models_own_frame(run, capsys):
    arguments = ["--run", str(run), "--num-trps", "4", "--device", "cpu"]
    assert evaluate.main(arguments) == 0
    assert evaluate.main([*arguments, "--scenario", "far_away"]) == 0
    assert "evaluations/far_away.json" in capsys.readouterr().out
    own = saving.read_run(run, saving.EVALUATION)
    other = saving.read_run(run, "evaluations/far_away.json")
    assert other["num_trps"]["4"]["rmse"] == pytest.approx(
        own["num_trps"]["4"]["rmse"], rel=1e-4
    )
    assert own["num_trps"]["4"]["rmse"] < 100  # not a kilometre
    for tables in (own, other):  # bounds know where TRPs and UEs are, too
        bounds = [group["bound_p50"] for group in tables["num_trps_los"].values()]
        known = [bound for bound in bounds if bound is not None]
        assert known and max(known) < 100


def test_the_baseline_is_of_the_runs_own_scenario(run, capsys):
    from sionna_loc.assembly import make_model
    from sionna_loc.saving import save_model

    config = RunConfig(scenario="free_space", model="multilateration", num_trps=4)
    save_model(make_model(config, tiny_training.FreeSpace()), run / saving.BASELINE)
    arguments = ["--run", str(run), "--num-trps", "4", "--device", "cpu"]
    for words, there in (
        (["--scenario-option", "sleep=0.001"], True),
        (["--scenario", "far_away"], False),
    ):
        evaluate.main([*arguments, *words])
        output = capsys.readouterr().out
        assert ("calibrated on free_space. Its errors here:" in output) != there
        (path,) = (run / saving.EVALUATIONS).iterdir()
        assert ("multilateration" in json.loads(path.read_text())) == there
        path.unlink()


def test_every_choice_of_options_has_a_name_that_a_file_can_have():
    def name_of(*words):
        pairs = [word for option in words for word in ("--scenario-option", option)]
        arguments = evaluate.build_parser().parse_args(["--run", "x", *pairs])
        return evaluate._file_name(RunConfig(scenario="madrid"), arguments)

    assert name_of("num_train=9") == "madrid-num_train=9.json"
    assert name_of("a=1", "b=2") == name_of("b=2", "a=1") == "madrid-a=1-b=2.json"
    texts = ("16", "[16]", "[1,6]", "[1,[6]]", '"16"', "[1, 6, 16]")
    names = [name_of(f"constellations={text}") for text in texts]
    long = [f"constellations={[*range(200), last]}" for last in (1, 2)]
    names += [name_of(option) for option in long]
    assert len(set(names)) == len(names)
    assert all(len(name) < 200 and name.startswith("madrid-c") for name in names)


def test_what_cannot_be_saved_shows_before_the_evaluation(
    run, command_line, monkeypatch
):
    def too_late(*arguments):
        raise AssertionError("The evaluation has begun.")

    monkeypatch.setattr(evaluation, "evaluate_over_num_trps", too_late)
    (run / saving.EVALUATIONS).write_text("a file where the folder is to be")
    code, lines = command_line(evaluate, "--run", run, "--scenario", "far_away")
    assert code == 2 and len(lines) == 1 and "evaluations" in lines[0]


def test_other_options_of_the_runs_scenario_have_a_file_of_their_own(run):
    before = (run / saving.METRICS).read_text()
    arguments = ["--run", str(run), "--num-trps", "4", "--device", "cpu"]
    evaluate.main([*arguments, "--scenario-option", "sleep=0.001"])
    assert (run / "evaluations" / "free_space-sleep=0.001.json").exists()
    assert not (run / saving.EVALUATION).exists()
    assert (run / saving.METRICS).read_text() == before
    # A new run in the folder takes them away.
    config = RunConfig.from_dict(saving.read_run(run)["config"])
    training.fit(config, run, overwrite=True, device="cpu", quiet=True)
    assert not (run / "evaluations").exists()


def test_adaptation_is_in_the_models_frame_too(run):
    arguments = ["--run", str(run), "--num-samples", "8", "--epochs", "1"]
    adapt.main([*arguments, "--scenario", "far_away", "--device", "cpu"])
    found = json.loads((run / "adaptation-8" / "adaptation.json").read_text())
    assert found["points"][0]["mae"] < 100  # not a kilometre


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scenario", "far_awai"], "Did you mean 'far_away'"),
        (["--scenario", "wider"], "of 100 m x 100 m. Received: region="),
        (["--scenario", "higher"], "heights of 0 to 10 m, and those of higher are"),
        (["--scenario", "other_taps"], "model's 1 antenna(s) x 32 taps. Received:"),
        (["--scenario", "other_band"], "must be the model's, 2.5e+07 Hz. Received:"),
        (["--scenario-option", "slep=1"], "Did you mean 'sleep'"),
        (["--scenario", "far_away", "--measurements", "x.npz"], "Either --scenario or"),
    ],
)
def test_mistakes_are_one_clear_line(run, command_line, words, message):
    code, lines = command_line(evaluate, "--run", run, *words)
    assert code == 2 and len(lines) == 1 and message in lines[0]


def test_a_prepared_set_is_of_the_runs_own_scenario():
    config = RunConfig(data_dir="data", scenario_options={"small": True})
    assert with_scenario(config, None, {}) == config
    assert with_scenario(config, "paris_scn1", {}) == config
    other = with_scenario(config, "inf_dh", {"num_train": 3})
    assert (other.scenario, other.data_dir) == ("inf_dh", None)
    assert other.scenario_options == {"num_train": 3}
    deeper = with_scenario(config, None, {"max_depth": 2})
    assert deeper.scenario_options == {"small": True, "max_depth": 2}
    assert deeper.data_dir is None


@pytest.mark.parametrize(
    ("scenario", "own", "options", "kept"),
    [
        ("madrid", {}, {"constellations": 16}, True),
        ("madrid", {}, {"constellations": [0, 16], "num_train": 20}, True),
        ("madrid", {"small": True}, {"small": False}, False),
        ("inf_dh", {"num_train": 50}, {"num_train": 20}, True),
        ("inf_dh", {"num_train": 50}, {"num_train": 0}, False),  # a stream
        ("inf_dh", {"num_train": 50}, {"factory": 3}, False),
    ],
)
def test_options_that_choose_from_a_prepared_set_keep_it(scenario, own, options, kept):
    config = RunConfig(scenario=scenario, data_dir="data", scenario_options=own)
    other = with_scenario(config, None, options)
    assert other.scenario_options == {**own, **options}
    assert other.data_dir == ("data" if kept else None)


def test_a_moved_scenario_gives_nothing_in_the_frame_that_it_left():
    class Places(tiny_training.FreeSpace):
        num_ues = 3

        def positions(self, seed, num_ues):
            return tf.zeros([8, 3]), tf.ones([num_ues, 3])

        def drop(self, seed):
            trp, ue = self.positions(seed, self.num_ues)
            return {"trp_position": trp, "ue_position": ue, "los": tf.zeros([3, 8])}

        def stream(self, seed=0):
            return self.batches(4, seed, fields=tuple(FIELDS)).unbatch()

    scenario = Places()
    moved = Moved(scenario, AWAY)
    trp, ue = moved.positions((1, 2), 5)
    assert (trp.numpy() == AWAY).all() and (ue.numpy() == 1 + AWAY).all()
    drop = moved.drop((1, 2))
    assert (drop["ue_position"].numpy() == 1 + AWAY).all() and "los" in drop
    for name in ("ue_position", "trp_position"):
        was, now = (next(iter(one.stream(3)))[name] for one in (scenario, moved))
        np.testing.assert_allclose(now, was + AWAY, rtol=1e-6)
    for name in ("place", "split_positions", "trp_area"):
        with pytest.raises(AttributeError, match=f"moved scenario has no '{name}'"):
            getattr(moved, name)
    for again in (copy.copy(moved), copy.deepcopy(moved)):
        np.testing.assert_array_equal(again.region, scenario.region + AWAY)
        assert again.num_taps == scenario.num_taps
    assert pickle.loads(pickle.dumps(Moved(_Frame(), AWAY))).num_taps == 7


class _Frame:
    """All that `Moved` asks for."""

    region, num_taps = np.zeros((2, 3)), 7
