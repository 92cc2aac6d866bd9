import types

import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data.array_files import write_fields
from sionna_loc.data.converters import from_deepmimo, from_sionna_paths
from sionna_loc.data.measured_set import MeasuredSet

SAMPLING = {"num_taps": 64, "sampling_rate": 200e6, "bandwidth": 100e6}
TRPS = np.array([[0.0, 0.0, 10.0], [60.0, 5.0, 12.0]])
UES = np.array([[20.0, 30.0, 1.5], [50.0, -10.0, 1.5], [5.0, 8.0, 2.0]])


def check_free_space(fields, atol=0.0):
    """Compare fields with what TRPs and UEs in free space must give."""
    way = UES[:, None] - TRPS
    distance = np.linalg.norm(way, axis=-1)
    np.testing.assert_allclose(
        fields["trp_position"], np.tile(TRPS, (3, 1, 1)), atol=1e-5
    )
    np.testing.assert_allclose(fields["ue_position"], UES, atol=1e-5)
    np.testing.assert_allclose(
        fields["tof"] * SPEED_OF_LIGHT, distance, rtol=1e-4, atol=atol
    )
    zenith, azimuth = np.moveaxis(fields["aoa"], -1, 0)
    direction = np.stack(
        [
            np.sin(zenith) * np.cos(azimuth),
            np.sin(zenith) * np.sin(azimuth),
            np.cos(zenith),
        ],
        axis=-1,
    )
    np.testing.assert_allclose(direction, way / distance[..., None], atol=1e-4 + atol)
    tap = np.abs(fields["cir"]).argmax(axis=-1)
    expected = np.round(distance / SPEED_OF_LIGHT * SAMPLING["sampling_rate"])
    np.testing.assert_array_equal(tap[:, :, 0], expected)
    assert fields["trp_mask"].all()


@pytest.fixture(scope="module")
def trace():
    """Return a function that gives the paths of a Sionna RT scene without walls."""
    import sionna_loc.channels  # noqa: F401, loads LLVM before Dr.Jit
    from sionna_loc.places.tracer_thread import TRACER_THREAD

    TRACER_THREAD.start()
    import sionna.rt as rt

    def traced(num_rows=1, synthetic_array=True, swap=False, panel=None):
        scene = rt.load_scene()
        scene.frequency = 3.5e9
        kinds = {"pattern": "iso", "polarization": "V"}
        single = rt.PlanarArray(num_rows=1, num_cols=1, **kinds)
        rows, columns = panel or (1, num_rows)
        several = rt.PlanarArray(num_rows=rows, num_cols=columns, **kinds)
        scene.tx_array, scene.rx_array = (
            (several, single) if swap else (single, several)
        )
        senders, hearers = (UES, TRPS) if swap else (TRPS, UES)
        for i, place in enumerate(senders):
            scene.add(rt.Transmitter(f"tx{i}", position=place.tolist()))
        for i, place in enumerate(hearers):
            scene.add(rt.Receiver(f"rx{i}", position=place.tolist()))
        return rt.PathSolver()(scene, max_depth=0, synthetic_array=synthetic_array)

    def run(convert, **options):
        return TRACER_THREAD.call(lambda: convert(traced(**options)))

    return run


def test_paths_of_sionna_rt_become_cirs_and_links(trace):
    fields = trace(lambda paths: from_sionna_paths(paths, **SAMPLING))
    check_free_space(fields)
    distance = np.linalg.norm(UES[:, None] - TRPS, axis=-1)
    wavelength = SPEED_OF_LIGHT / 3.5e9
    loss = 20 * np.log10(4 * np.pi * distance / wavelength)
    np.testing.assert_allclose(fields["power"], 23 - loss, atol=0.05)


def test_receivers_may_be_the_trps(trace):
    fields = trace(
        lambda paths: from_sionna_paths(paths, **SAMPLING, uplink=True), swap=True
    )
    check_free_space(fields)


@pytest.mark.parametrize("synthetic_array", [True, False])
def test_the_ue_may_have_several_antennas(trace, synthetic_array):
    fields = trace(
        lambda paths: from_sionna_paths(paths, **SAMPLING),
        num_rows=3,
        synthetic_array=synthetic_array,
    )
    assert fields["cir"].shape == (3, 2, 3, 64)
    single = trace(lambda paths: from_sionna_paths(paths, **SAMPLING))
    np.testing.assert_allclose(fields["power"], single["power"], atol=0.1)
    check_free_space(fields, atol=0.0 if synthetic_array else 0.1)


def test_panels_of_several_rows_and_silent_ues(trace):
    with pytest.raises(UserError, match=r"stand in one row.* Received: num_rows=2"):
        trace(lambda paths: from_sionna_paths(paths, **SAMPLING), panel=(2, 2))
    with pytest.raises(UserError, match=r"No UE hears a TRP"):
        trace(lambda paths: from_sionna_paths(Silent(paths), **SAMPLING))


class Silent:
    """Paths of which none exists."""

    def __init__(self, paths):
        self._paths = paths

    def __getattr__(self, name):
        return getattr(self._paths, name)

    @property
    def tau(self):
        return -np.ones(np.shape(self._paths.tau))


def test_trps_of_several_antennas_are_refused(trace):
    with pytest.raises(UserError, match=r"single antenna.* Received: num_ant=3"):
        trace(
            lambda paths: from_sionna_paths(paths, **SAMPLING, uplink=True), num_rows=3
        )


class Several:
    """What DeepMIMO calls a MacroDataset: not iterable, its parts in `datasets`."""

    def __init__(self, datasets):
        self.datasets = datasets


def deepmimo(trp, num_paths=2):
    """Return what `deepmimo.load` gives of a base station in free space."""
    way = UES - TRPS[trp]
    distance = np.linalg.norm(way, axis=1)
    missing = np.full((3, num_paths - 1), np.nan)

    def padded(values):
        return np.concatenate([values[:, None], missing], axis=1)

    return types.SimpleNamespace(
        rx_pos=UES,
        tx_pos=TRPS[trp : trp + 1],
        power=padded(-20 * np.log10(distance)),
        phase=padded(np.full(3, 90.0)),
        delay=padded(distance / SPEED_OF_LIGHT),
        aod_el=padded(np.rad2deg(np.arccos(way[:, 2] / distance))),
        aod_az=padded(np.rad2deg(np.arctan2(way[:, 1], way[:, 0]))),
    )


def test_deepmimo_of_several_base_stations_becomes_cirs_and_links():
    fields = from_deepmimo(Several([deepmimo(0), deepmimo(1, 3)]), **SAMPLING)
    check_free_space(fields)
    distance = np.linalg.norm(UES[:, None] - TRPS, axis=-1)
    np.testing.assert_allclose(fields["power"], 23 - 20 * np.log10(distance))
    peak = fields["cir"].reshape(6, -1)[
        np.arange(6), np.abs(fields["cir"]).reshape(6, -1).argmax(1)
    ]
    np.testing.assert_allclose(np.angle(peak), np.pi / 2, atol=1e-4)


def test_users_that_hear_nothing_are_left_out():
    dataset = deepmimo(0)
    for name in ("power", "phase", "delay", "aod_el", "aod_az"):
        getattr(dataset, name)[1] = np.nan
    fields = from_deepmimo(dataset, **SAMPLING)
    np.testing.assert_allclose(fields["ue_position"], UES[[0, 2]])
    assert fields["cir"].shape == (2, 1, 1, 64)


def test_base_stations_with_other_users_are_refused():
    other = deepmimo(1)
    other.rx_pos = UES + 1
    with pytest.raises(UserError, match="must serve the same users"):
        from_deepmimo(Several([deepmimo(0), other]), **SAMPLING)


def test_what_is_converted_can_be_trained_on(tmp_path):
    fields = from_deepmimo(Several([deepmimo(0), deepmimo(1)]), **SAMPLING)
    write_fields(tmp_path / "deepmimo.h5", fields)
    found = MeasuredSet([], test_files=[tmp_path / "deepmimo.h5"])
    for kind in found.kinds:
        found.check_values(kind)
    assert len(found.kinds) == 2
