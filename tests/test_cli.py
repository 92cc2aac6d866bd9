"""The command lines, end to end on the real ray-traced scenario at its smallest."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_vinloc

from sionna_loc import cli, predict, saving, train
from sionna_loc.checks import UserError

# `sionna_loc.evaluate` is the function as long as nobody imports the module.
evaluate = importlib.import_module("sionna_loc.evaluate")
ROOT = Path(__file__).parent.parent
TINY_MODEL = {**tiny_vinloc.SIZES, "refiner_spacings": []}


def run(module, *arguments, cache=None, timeout=280):
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    # JAX, once imported, sets this for all child processes.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    if cache is not None:
        environment["SIONNA_LOC_CACHE"] = str(cache)
    return subprocess.run(
        [sys.executable, "-m", f"sionna_loc.{module}", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """The folder of a `--small` run, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    options = [
        argument
        for name, value in TINY_MODEL.items()
        for argument in ("--model-option", f"{name}={json.dumps(value)}")
    ]
    result = run("train", "--small", "--run-dir", run_dir, *options, cache=cache)
    assert result.returncode == 0, result.stderr
    return run_dir, result


@pytest.fixture
def in_process(monkeypatch, cache):
    """Call a `main` here: its mistakes are `UserError`s, which `cli.run` prints."""
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(cache))
    return lambda module, *arguments: module.main([*map(str, arguments)])


def write_input(path, num_samples=3, num_taps=256, **changes):
    rng = np.random.default_rng(0)
    shape = (num_samples, 4, 1, num_taps)
    noise = rng.normal(size=(2, *shape)) * 1e-6
    fields = {
        "cir": (noise[0] + 1j * noise[1]).astype("complex64"),
        "trp_position": rng.uniform(0, 200, (num_samples, 4, 3)).astype("f"),
        "sampling_rate": 200e6,
    }
    np.savez(path, **{k: v for k, v in (fields | changes).items() if v is not None})
    return path


@pytest.mark.parametrize("module", ["train", "evaluate", "predict"])
def test_help_is_light(module):
    code = (
        f"import sys, sionna_loc.{module} as module\n"
        "try:\n    module.main(['--help'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "heavy = {'tensorflow', 'keras', 'mitsuba', 'sionna'} & set(sys.modules)\n"
        "print(code, sorted(heavy))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    usage, *_, last = result.stdout.splitlines()
    assert f"python -m sionna_loc.{module}" in usage
    assert last == "0 []"


def test_help_names_what_there_is():
    text = train.build_parser().format_help()
    for word in ("paris_scn1", "vinloc", "multilateration", "paper", "18000", "2000"):
        assert word in text
    assert "follows the clock" in cli.one_line(text)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("ModuleNotFoundError('No module named \\'scipy\\'')", 2, "named 'scipy'"),
        ("OSError(28, 'No space left on device')", 2, "No space left on device"),
        ("PermissionError(13, 'Denied', 'out.npz')", 2, "Denied: 'out.npz'"),
        ("cli.UserError('That\\ncannot be.')", 2, "That cannot be."),
        ("OSError()", 2, "OSError"),
        ("BrokenPipeError()", 1, None),
        ("ZeroDivisionError()", 1, "Traceback"),
    ],
)
def test_what_the_user_can_mend_is_one_line(error, code, message):
    main = (
        "import os\nfrom sionna_loc import cli\n"
        "def main():\n    with cli.quiet_imports():\n"
        f"        os.write(2, b'noise')\n        raise {error}\ncli.run(main)"
    )
    result = subprocess.run(
        [sys.executable, "-c", main], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == code and result.stdout == ""
    if code == 2:
        assert len(result.stderr.splitlines()) == 1
        assert ": error: " in result.stderr and "noise" not in result.stderr
    assert message is None or message in result.stderr


def test_train_small(trained):
    run_dir, result = trained
    assert result.stderr == ""
    assert "Device: " in result.stdout
    lines = [line for line in result.stdout.splitlines() if "samples/s" in line]
    assert [line[:4] for line in lines] == [" 50%", "100%"]
    for word in ("loss", "val. RMSE", "waiting", "ETA"):
        assert word in lines[-1]
    assert "95 %:" in result.stdout and str(run_dir) in result.stdout
    record = saving.read_run(run_dir)
    assert record["scenario"]["name"] == "paris_scn1"
    assert record["command"].startswith("python -m sionna_loc.train --small")
    assert record["resolved"]["model_options"] == TINY_MODEL
    metrics = saving.read_run(run_dir, saving.METRICS)
    assert metrics["num_samples"] == 64 and 0 < metrics["rmse"] < 400
    baseline = metrics["baselines"]["multilateration"]
    assert baseline["num_samples"] == 64
    # Most ranges are exact there, and a network after 20 steps knows nothing.
    assert 0 < baseline["p50"] < 0.5 * metrics["p50"]
    (line,) = (line for line in result.stdout.splitlines() if " rmse " in line)
    assert f"{metrics['rmse']:.2f}" in line and f"{baseline['rmse']:.2f}" in line
    names = {path.name for path in run_dir.iterdir()}
    assert {"config.json", "model.keras", "history.csv", "metrics.json"} <= names
    assert "baseline.keras" in names
    assert {"figures", "checkpoints", "logs"} <= names
    assert (run_dir / "figures" / "training_curve.png").stat().st_size > 1000


def test_evaluate_gives_the_metrics_again(trained, in_process, capsys):
    run_dir, _ = trained
    before = (run_dir / "metrics.json").read_text()
    options = "--num-trps", "4,12", "--range-deviation", "0.25"
    assert in_process(evaluate, "--run", run_dir, *options) == 0
    output = capsys.readouterr().out
    assert (run_dir / "metrics.json").read_text() == before
    tables = saving.read_run(run_dir, "evaluation.json")
    again = tables["num_trps"]
    assert list(again) == ["4", "12"]
    metrics = json.loads(before)
    assert again["12"]["rmse"] == pytest.approx(metrics["rmse"], rel=1e-5)
    assert again["4"]["rmse"] != again["12"]["rmse"]
    assert f"{metrics['rmse']:.2f}" in output
    assert [line.split()[0] for line in output.splitlines()[-3:-1]] == ["4", "12"]
    heard, los = tables["num_trps_heard"], tables["num_trps_los"]
    assert min(map(int, los)) < min(map(int, heard)) and len(los) > 1
    for groups in (heard, los):
        assert sum(g["num_samples"] for g in groups.values()) == metrics["num_samples"]
        squared = sum(g["num_samples"] * g["rmse"] ** 2 for g in groups.values())
        for group in groups.values():
            share = group["num_samples"] * group["rmse"] ** 2 / squared
            assert group["squared_share"] == pytest.approx(share, abs=1e-6)
    assert "in line of sight; bound for ranges of 0.25 m" in output
    assert tables["range_deviation"] == 0.25
    for number, group in los.items():  # n TRPs all around: 2 s / sqrt(n), at the best
        least = 2 * 0.25 / max(int(number), 2) ** 0.5
        assert (group["bound_p50"] is None) == (int(number) < 2)
        assert int(number) < 2 or group["bound_p50"] > least


def test_evaluate_mistakes(trained, in_process, tmp_path):
    run_dir, _ = trained
    with pytest.raises(UserError, match="num_trps=0"):
        in_process(evaluate, "--run", run_dir, "--num-trps", "0")
    with pytest.raises(UserError, match=r"at most the 16 TRPs.*num_trps=17"):
        in_process(evaluate, "--run", run_dir, "--num-trps", "17")
    with pytest.raises(UserError, match="num_trps=0"):
        in_process(evaluate, "--run", run_dir, "--num-trps", "4,0")
    for number in (-1, 0):
        with pytest.raises(UserError, match=f"num_samples={number}"):
            in_process(evaluate, "--run", run_dir, "--num-samples", number)
    for option, value in (("range-deviation", "0"), ("snr-db", "nan")):
        with pytest.raises(UserError, match=f"{option.replace('-', '_')}="):
            in_process(evaluate, "--run", run_dir, f"--{option}", value)
    with pytest.raises(UserError, match="holds no run"):
        in_process(evaluate, "--run", tmp_path)
    shutil.copy(run_dir / "config.json", tmp_path)
    with pytest.raises(UserError, match="no model"):
        in_process(evaluate, "--run", tmp_path)


def test_a_truncated_cache(trained, in_process, cache, monkeypatch, tmp_path):
    (file,) = cache.glob("*-test-64-*.npz")
    monkeypatch.setenv("SIONNA_LOC_CACHE", str(tmp_path))
    (tmp_path / file.name).write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged"):
        evaluate.main(["--run", str(trained[0]), "--num-trps", "4"])
    assert (tmp_path / file.name).stat().st_size == 5000


def test_predict(trained, in_process, tmp_path, capsys):
    source = write_input(tmp_path / "in.npz", num_samples=300)
    arguments = ["--run", trained[0], "--input", source]
    assert in_process(predict, *arguments, "--output", tmp_path / "out.npz") == 0
    assert "300 positions" in capsys.readouterr().out
    position = np.load(tmp_path / "out.npz")["position"]
    assert position.shape == (300, 3) and np.isfinite(position).all()
    assert len(np.unique(position[:, 0])) > 200


class Sure:
    """A model that knows how sure it is."""

    def predict_on_batch(self, inputs):
        size = inputs["cir"].shape[0]
        covariance = np.broadcast_to(np.diag([4.0, 9.0, 1.0]), (size, 3, 3))
        return {"position": np.full((size, 3), 7.0), "covariance": covariance}


def test_predict_writes_the_covariance(trained, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "load_model", lambda run: Sure())
    source = write_input(tmp_path / "in.npz", num_samples=300)
    arguments = ["--run", trained[0], "--input", source]
    assert in_process(predict, *arguments, "--output", tmp_path / "out.npz") == 0
    with np.load(tmp_path / "out.npz") as found:
        assert found["position"].shape == (300, 3) and (found["position"] == 7).all()
        assert found["covariance"].dtype == np.float32
        np.testing.assert_array_equal(found["covariance"][299], np.diag([4, 9, 1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_taps": 64}, "256 taps"),
        ({"cir": None}, "are required"),
        ({"trp_position": np.full((3, 4, 3), np.nan, "f")}, "finite"),
        ({"cir": np.zeros((3, 4, 1, 256), "complex64")}, "must hear at least one TRP"),
        ({"num_samples": 0}, "no sample"),
    ],
)
def test_predict_mistakes(trained, in_process, tmp_path, changes, message):
    source = write_input(tmp_path / "in.npz", **changes)
    target = tmp_path / "out.npz"
    with pytest.raises(UserError, match=message):
        in_process(predict, "--run", trained[0], "--input", source, "--output", target)
    assert not target.exists()


def test_predict_checks_the_output_before_the_work(trained, in_process, tmp_path):
    source = write_input(tmp_path / "in.npz")
    before = source.read_bytes()
    (tmp_path / "folder.npz").mkdir()
    shutil.copy(trained[0] / "config.json", tmp_path)  # no model: so before it is read
    arguments = ["--run", tmp_path, "--input", source, "--output"]
    with pytest.raises(UserError, match="must not be a folder"):
        in_process(predict, *arguments, tmp_path / "folder.npz")
    (tmp_path / "link.npz").symlink_to(source)
    for same in (source, tmp_path / "link.npz", tmp_path / "folder.npz/../in.npz"):
        with pytest.raises(UserError, match="would replace the input"):
            in_process(predict, *arguments, same)
    assert source.read_bytes() == before


@pytest.mark.parametrize("module", [evaluate, predict, train])
def test_a_config_of_something_else(module, trained, in_process, tmp_path):
    flag = "--resume --run-dir" if module is train else "--run"
    arguments = [*flag.split(), tmp_path / "run"]
    if module is predict:
        source = write_input(tmp_path / "in.npz")
        arguments += ["--input", source, "--output", tmp_path / "out.npz"]
    shutil.copytree(trained[0], tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="holds no run"):
        in_process(module, *arguments)
    for part in ("config", "resolved"):
        record[part]["dropout"] = record[part].pop("seed")
    record["features"]["window"] = 3
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="another version of the library"):
        in_process(module, *arguments)


def set_in_both(name, value):
    """Edit a value of the configuration as given and as resolved."""

    def edit(record):
        for part in ("config", "resolved"):
            record[part][name] = value

    return edit


EDITS = {
    "unknown option": (
        train,
        set_in_both("model_options", {**TINY_MODEL, "unet_filter": [4]}),
        "Unknown option of vinloc 'unet_filter'. Did you mean 'unet_filters'?",
    ),
    "type of an option": (
        train,
        set_in_both("model_options", {**TINY_MODEL, "num_blocks": "one"}),
        "num_blocks='one'",
    ),
    "name of an option": (
        train,
        set_in_both("model_options", {**TINY_MODEL, "norm": 3}),
        "norm=3",
    ),
    "element of an option": (
        train,
        set_in_both("model_options", {**TINY_MODEL, "unet_filters": [4, None]}),
        "None",
    ),
    "options in no dict": (
        train,
        set_in_both("model_options", ["num_blocks", 1]),
        "`model_options` must be a dict.",
    ),
    "another valid option": (
        train,
        lambda record: record["config"]["model_options"].update(num_blocks=2),
        "The run in",
    ),
    "option of the scenario": (
        train,
        set_in_both("scenario_options", {"max_depth": "three"}),
        "max_depth",
    ),
    "number as text": (train, set_in_both("steps", "20"), "steps='20'"),
    "list for a name": (train, set_in_both("model", ["vinloc"]), "Unknown model"),
    "scenario": (evaluate, set_in_both("scenario", 1), "Unknown scenario 1."),
    "null": (evaluate, set_in_both("num_trps", None), "missing=['num_trps']"),
    "features": (
        predict,
        lambda record: record["features"].update(num_taps="many"),
        "another version of the library",
    ),
    "features of links": (
        predict,
        lambda record: record.update(features={"angle_resolution": 20.0}),
        "takes link measurements (`tof` or `range`), the file holds CIRs",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_config_edited_by_hand_is_one_line(name, trained, command_line, tmp_path):
    module, edit, message = EDITS[name]
    run_dir = tmp_path / "run"
    shutil.copytree(trained[0], run_dir)
    (run_dir / "metrics.json").unlink()
    record = json.loads((run_dir / "config.json").read_text())
    edit(record)
    (run_dir / "config.json").write_text(json.dumps(record))
    arguments = ["--resume", "--run-dir", run_dir]
    if module is not train:
        arguments = ["--run", run_dir]
    if module is predict:
        source = write_input(tmp_path / "in.npz")
        arguments += ["--input", source, "--output", tmp_path / "out.npz"]
    code, lines = command_line(module, *arguments)
    assert code == 2
    (line,) = lines
    assert ": error: " in line and message in line


def test_a_users_mistake_is_one_line(trained, command_line, tmp_path):
    arguments = ["--run", trained[0], "--input", tmp_path, "--output", "x.npz"]
    code, (line,) = command_line(predict, *arguments)
    assert code == 2
    assert ": error: " in line and "must end in .npz" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenario", "paris_scn11"], "Did you mean 'paris_scn1'? Known: "),
        (["--model", "vinlok"], "Did you mean 'vinloc'? Known: backprojection, "),
        (["--recipe", "papers"], "Did you mean 'paper'?"),
        (["--num-trps", "0"], "Received: num_trps=0."),
        (["--num-trps", "many"], "--num-trps: invalid int value: 'many'"),
        (["--step", "3"], "unrecognized arguments: --step 3"),
        (["--model-option", "units"], "expected KEY=VALUE"),
        (["--steps", "3", "--epochs", "1"], "not both"),
    ],
)
def test_train_mistakes_before_tensorflow(arguments, message):
    result = run("train", *arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


def test_train_mistakes(trained, in_process, tmp_path):
    run_dir, _ = trained
    folder = ["--run-dir", tmp_path / "new"]
    with pytest.raises(UserError, match=r"Did you mean 'compact'\? Known: compact, "):
        in_process(train, "--small", "--preset", "compakt", *folder)
    with pytest.raises(UserError, match=r"at most the 16 TRPs.*num_trps=17"):
        in_process(train, "--small", "--num-trps", "17", *folder)
    with pytest.raises(UserError, match="Unknown device 'tpu'"):
        in_process(train, "--small", "--device", "tpu", *folder)
    with pytest.raises(UserError, match="holds no run"):
        in_process(train, "--resume", *folder)
    assert not (tmp_path / "new").exists()
    before = (run_dir / "config.json").read_text()
    with pytest.raises(UserError, match="holds a run"):
        in_process(train, "--small", "--run-dir", run_dir)
    with pytest.raises(UserError, match=r"`seed` is 0.*seed=5"):
        in_process(train, "--resume", "--seed", "5", "--run-dir", run_dir)
    assert (run_dir / "config.json").read_text() == before


def test_resuming_a_finished_run_prints_its_result(trained, in_process, capsys):
    assert in_process(train, "--resume", "--quiet", "--run-dir", trained[0]) == 0
    metrics = saving.read_run(trained[0], saving.METRICS)
    assert f"{metrics['rmse']:.2f}" in capsys.readouterr().out


def test_key_value():
    assert cli.key_value("a=[1, 2]") == ("a", [1, 2])
    assert cli.key_value("solver=stock") == ("solver", "stock")
    assert cli.key_value("a=") == ("a", "")


@pytest.mark.slow
def test_multilateration_takes_the_same_way(tmp_path, cache):
    run_dir = tmp_path / "run"
    arguments = ["--small", "--model", "multilateration", "--run-dir", run_dir]
    result = run("train", *arguments, cache=cache)
    assert result.returncode == 0, result.stderr
    assert saving.read_run(run_dir, saving.METRICS)["rmse"] > 0
    assert not (run_dir / "history.csv").exists()
