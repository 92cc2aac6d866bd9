import keras
import numpy as np
import pytest
from keras import ops

from sionna_loc.layers import first_path
from sionna_loc.layers.first_path import FirstPath

NUM_TAPS, RATE, BANDWIDTH = 128, 200e6, 100e6


class DenseGrid(FirstPath):
    """The same fit, with all delays in steps of 1/8 tap tried at once."""

    def _strongest(self, response):
        delay = np.arange(8 * self.num_taps - 7, dtype="f") / 8
        pulse, _ = self._pulses(ops.convert_to_tensor(delay[None]))
        pulse = ops.transpose(pulse[0])  # [num_delays, num_taps]
        match = ops.sum(ops.square(ops.matmul(pulse, response)), axis=-1)
        match = match / ops.sum(ops.square(pulse), axis=1)
        return ops.expand_dims(ops.take(delay, ops.argmax(match, axis=1)), 1)


def links(num_links=400, num_ant=2, seed=0):
    """Delays [links, paths] [taps], gains and CIRs of four paths and noise."""
    rng = np.random.default_rng(seed)
    delay = rng.uniform(5, 60, (num_links, 1)) + np.cumsum(
        rng.exponential(6.0, (num_links, 4)), axis=1
    )
    shape = (num_links, num_ant, 4)
    gain = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    gain *= np.array([1.0, 1.0, 0.7, 0.5])
    taps = np.arange(NUM_TAPS)[:, None]
    pulse = np.sinc((taps - delay[:, None, None]) * BANDWIDTH / RATE)
    cir = np.einsum(
        "lap,latp->lat", gain, np.broadcast_to(pulse, (*shape[:2], *pulse.shape[2:]))
    )
    cir = np.stack([cir.real, cir.imag], axis=-1)
    return delay, cir + 0.02 * rng.normal(size=cir.shape)


def test_coarse_then_fine_is_as_good_as_the_dense_grid():
    # Of few links the percentiles are chance, another one on each kind of CPU.
    delay, cir = links(4000)
    arguments = NUM_TAPS, RATE, BANDWIDTH
    errors, found = [], []
    for layer in (FirstPath(*arguments), DenseGrid(*arguments)):
        estimate, _ = layer(cir.astype("f"))
        found.append(np.asarray(estimate) * RATE)
        errors.append(np.abs(found[-1] - delay[:, 0]))
    # Where paths overlap the two may part, to neither's advantage.
    assert np.mean(np.abs(found[0] - found[1]) < 0.01) > 0.9
    for share in (50, 75, 90):
        coarse, dense = (np.percentile(error, share) for error in errors)
        assert coarse < 1.1 * dense + 0.005, share
    assert np.median(errors[0]) < 0.05


@pytest.mark.parametrize("bandwidth", [RATE, BANDWIDTH, BANDWIDTH / 4])
def test_the_best_delay_of_all_eighths_is_found(bandwidth):
    """Single paths on the grid, both ends of it included."""
    delay = np.array([0.0, 0.125, 17.25, 17.375, 17.5, 17.625, 126.875, 127.0], "f")
    taps = np.arange(NUM_TAPS)
    response = np.sinc((taps - delay[:, None]) * bandwidth / RATE)[..., None]
    response = ops.convert_to_tensor(response.astype("f"))
    layer = FirstPath(NUM_TAPS, RATE, bandwidth)
    np.testing.assert_array_equal(layer._strongest(response)[:, 0], delay)


def test_arrays_of_numpys_are_made_tensors_before_they_are_calculated_with(monkeypatch):
    """On a GPU, or with PyTorch, the two do not mix."""

    class OnlyTensors:
        def __getattr__(self, name):
            function = getattr(keras.ops, name)

            def call(*arguments, **options):
                mixed = any(isinstance(x, np.ndarray) for x in arguments)
                assert not mixed or name == "convert_to_tensor", name
                return function(*arguments, **options)

            return call

    monkeypatch.setattr(first_path, "ops", OnlyTensors())
    _, cir = links(4)
    tensor = ops.convert_to_tensor(cir.astype("f"))
    delay, _ = FirstPath(NUM_TAPS, RATE, BANDWIDTH)(tensor)
    assert np.isfinite(delay).all()


def test_config_round_trip():
    layer = FirstPath(NUM_TAPS, RATE, BANDWIDTH, num_paths=3, dynamic_range_db=9.0)
    assert FirstPath.from_config(layer.get_config()).get_config() == layer.get_config()
