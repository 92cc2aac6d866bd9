"""A run's model in another scenario: the same errors, wherever that lies."""

import json
import shutil

import numpy as np
import pytest
import tiny_training

from sionna_loc import adapt, evaluate, registry, saving, training
from sionna_loc.recipes import RunConfig
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


class OtherTaps(FarAway):
    """CIRs that the model does not know."""

    name = "other_taps"
    num_taps = 16


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(training, "save_figures", lambda *arguments: None)
    with tiny_training.registered():
        for one in (FarAway, Wider, OtherTaps):
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
        (["--scenario", "other_taps"], "model's 1 antenna(s) x 32 taps. Received:"),
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
