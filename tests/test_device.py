import json
import zipfile

import keras
import pytest

from sionna_loc import device, load_model
from sionna_loc.checks import UserError


@pytest.fixture
def no_choice_yet(monkeypatch):
    """Let a test choose anew, without touching TensorFlow's devices."""
    monkeypatch.setattr(device, "_chosen", [])
    monkeypatch.setattr(device, "_set_up_tensorflow", lambda kind: [])
    return monkeypatch


def test_auto_takes_the_cpu_where_there_is_no_gpu(no_choice_yet):
    no_choice_yet.setattr(device, "has_cuda", lambda: False)
    taken = device.use_device("auto")

    assert taken.kind == "cpu"
    assert taken.mitsuba_variant == "llvm_ad_mono_polarized"
    assert "CPU" in taken.description
    assert "\n" not in taken.description
    assert device.current_device() is taken


@pytest.mark.parametrize("wish", ["auto", "gpu"])
def test_a_gpu_is_taken_where_there_is_one(no_choice_yet, wish):
    no_choice_yet.setattr(device, "has_cuda", lambda: True)
    no_choice_yet.setattr(device, "_set_up_tensorflow", lambda kind: ["H100"])
    taken = device.use_device(wish)

    assert taken.mitsuba_variant == "cuda_ad_mono_polarized"
    assert "H100" in taken.description


def test_cpu_wins_over_a_gpu_that_is_there(no_choice_yet):
    no_choice_yet.setattr(device, "has_cuda", lambda: True)

    assert device.use_device("cpu").kind == "cpu"
    with pytest.raises(UserError, match="already 'cpu'"):
        device.use_device("gpu")


def test_gpu_without_one_is_a_clear_error(no_choice_yet):
    no_choice_yet.setattr(device, "has_cuda", lambda: False)
    with pytest.raises(UserError, match="No CUDA device was found"):
        device.use_device("gpu")


def test_unknown_devices_are_refused():
    with pytest.raises(UserError, match=r"'gpus'.*'gpu'"):
        device.use_device("gpus")


@pytest.mark.parametrize("wish", ["auto", "cpu"])
def test_once_tensorflow_runs_only_auto_is_still_possible(no_choice_yet, wish):
    def refuse(kind):
        raise RuntimeError("already initialized")

    no_choice_yet.setattr(device, "has_cuda", lambda: False)
    no_choice_yet.setattr(device, "_set_up_tensorflow", refuse)
    if wish == "auto":
        assert "set up before" in device.use_device(wish).description
    else:
        with pytest.raises(UserError, match=r"before TensorFlow .* initialized"):
            device.use_device(wish)


def test_loading_a_model_sets_the_device_up_first(no_choice_yet, tmp_path):
    """Afterwards TensorFlow has its variables and takes no more settings."""
    done = []
    no_choice_yet.setattr(
        device, "_set_up_tensorflow", lambda kind: done.append("device") or []
    )
    no_choice_yet.setattr(
        keras.saving, "load_model", lambda *args, **options: done.append("model")
    )
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        config = {"registered_name": "sionna_loc>VInLoc"}
        file.writestr("config.json", json.dumps(config))
    load_model(tmp_path)

    assert done == ["device", "model"]
