"""Channels of other tools as files of measurements.

Each function returns the fields that `array_files.write_fields` writes and
`docs/data_format.md` describes: CIRs, and the link measurements of the strongest path.
"""

from typing import Any

import numpy as np

from sionna_loc.checks import check, check_positive, check_positive_int
from sionna_loc.signals import band_limited_taps

_AT_A_TIME = 256
_SMALLEST = 1e-30


def from_sionna_paths(
    paths: Any,
    num_taps: int,
    sampling_rate: float,
    bandwidth: float,
    *,
    uplink: bool = False,
    tx_power_dbm: float = 23.0,
) -> dict[str, np.ndarray]:
    """Convert the paths of a Sionna RT scene.

    UEs that hear nothing are left out.

    Args:
        paths: `sionna.rt.Paths`. Transmitters are the TRPs, receivers the UEs, whose
            antennas, if there are several, stand in one row.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz].
        uplink: bool. Whether the receivers are the TRPs instead.
        tx_power_dbm: float [dBm]. To `power`.

    Returns: fields in the padded form, a sample for each UE.
    Raises: UserError if a TRP has several antennas, a UE several rows of them, nothing
        is heard, or a number is not positive.
    """
    real, imag = (np.asarray(part) for part in paths.a)
    gain = real + 1j * imag  # [num_rx, num_rx_ant, num_tx, num_tx_ant, num_paths]
    delay, zenith, azimuth = (
        np.asarray(values)
        for values in (
            (paths.tau, paths.theta_r, paths.phi_r)
            if uplink
            else (paths.tau, paths.theta_t, paths.phi_t)
        )
    )
    places = [np.asarray(where).T for where in (paths.sources, paths.targets)]
    if (
        not paths.synthetic_array
    ):  # a path for each pair of antennas: those of the first
        places = [
            where.reshape(number, -1, 3).mean(axis=1)
            for where, number in zip(
                places, (gain.shape[2], gain.shape[0]), strict=True
            )
        ]
        delay, zenith, azimuth = (v[:, 0, :, 0] for v in (delay, zenith, azimuth))
    trp_position, ue_position = places
    if uplink:
        gain = gain.transpose(2, 3, 0, 1, 4)
        delay, zenith, azimuth = (
            values.swapaxes(0, 1) for values in (delay, zenith, azimuth)
        )
        trp_position, ue_position = ue_position, trp_position
    ue_array = paths.tx_array if uplink else paths.rx_array
    heights = np.unique(np.round(np.asarray(ue_array.normalized_positions)[2], 6))
    check(
        len(heights) == 1,
        "The antennas of a UE must stand in one row; those of several are ordered and "
        "turned otherwise here.",
        num_rows=len(heights),
    )
    check(
        gain.shape[3] == 1,
        "Each TRP must have a single antenna, of one polarisation.",
        num_ant=gain.shape[3],
    )
    gain = gain[:, :, :, 0].swapaxes(1, 2)  # [num_ues, num_trps, num_ant, num_paths]
    exists = delay >= 0  # others have -1
    return _fields(
        np.where(exists[:, :, None], gain, 0),
        np.where(exists, delay, 0),
        np.stack([zenith, azimuth], axis=-1),
        trp_position,
        ue_position,
        {"num_taps": num_taps, "sampling_rate": sampling_rate, "bandwidth": bandwidth},
        tx_power_dbm,
    )


def from_deepmimo(
    dataset: Any,
    num_taps: int,
    sampling_rate: float,
    bandwidth: float,
    *,
    tx_power_dbm: float = 23.0,
) -> dict[str, np.ndarray]:
    """Convert a dataset of DeepMIMO, version 4.

    Args:
        dataset: what `deepmimo.load` gives: of one base station, or of several that
            serve the same users. Base stations are the TRPs, users the UEs, each with
            one antenna.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz].
        bandwidth: float > 0 [Hz].
        tx_power_dbm: float [dBm]. To `power`.

    Returns: fields in the padded form, a sample for each UE that hears a TRP.
    Raises: UserError if base stations have other users, nothing is heard, or a number
        is not positive.
    """
    # A dataset of one base station answers unknown attributes with a KeyError.
    parts = list(vars(dataset).get("datasets", [dataset]))
    check(len(parts) > 0, "The dataset has no base station.", num_trps=0)
    ue_position = np.asarray(parts[0].rx_pos, dtype=np.float64)
    for part in parts:
        check(
            np.array_equal(np.asarray(part.rx_pos), parts[0].rx_pos),
            "All base stations must serve the same users.",
            num_users=[len(part.rx_pos) for part in parts],
        )
    most = max(np.asarray(part.delay).shape[1] for part in parts)

    def stacked(name: str) -> np.ndarray:
        """Return a matrix of all base stations, [num_ues, num_trps, most]."""
        values = [np.asarray(getattr(part, name), dtype=np.float64) for part in parts]
        padded = [
            np.pad(v, ((0, 0), (0, most - v.shape[1])), constant_values=np.nan)
            for v in values
        ]
        return np.stack(padded, axis=1)

    power, phase, delay = map(stacked, ("power", "phase", "delay"))
    exists = np.isfinite(power) & np.isfinite(delay)
    gain = 10 ** (np.where(exists, power, -np.inf) / 20)  # sent: 0 dBW
    gain = gain * np.exp(1j * np.deg2rad(np.where(exists, phase, 0)))
    aod = np.deg2rad(np.stack([stacked("aod_el"), stacked("aod_az")], axis=-1))
    trp_position = np.concatenate(
        [np.reshape(part.tx_pos, (-1, 3))[:1] for part in parts]
    )
    return _fields(
        gain[:, :, None],
        np.where(exists, delay, 0),
        np.nan_to_num(aod),
        trp_position,
        ue_position,
        {"num_taps": num_taps, "sampling_rate": sampling_rate, "bandwidth": bandwidth},
        tx_power_dbm,
    )


def _fields(
    gain: np.ndarray,
    delay: np.ndarray,
    aod: np.ndarray,
    trp_position: np.ndarray,
    ue_position: np.ndarray,
    sampling: dict[str, Any],
    tx_power_dbm: float,
) -> dict[str, np.ndarray]:
    """Return the fields of a file.

    Args:
        gain: [num_ues, num_trps, num_ant, num_paths], complex, 0 for no path.
        delay: [num_ues, num_trps, num_paths] [s].
        aod: [num_ues, num_trps, num_paths, 2]. Zenith and azimuth at the TRP [rad].
        trp_position: [num_trps, 3] [m].
        ue_position: [num_ues, 3] [m].
        sampling: arguments of `signals.band_limited_taps`.
        tx_power_dbm: float [dBm].
    """
    check_positive_int("num_taps", sampling["num_taps"])
    check_positive("sampling_rate", sampling["sampling_rate"])
    check_positive("bandwidth", sampling["bandwidth"])
    heard = np.any(gain != 0, axis=(1, 2, 3))
    check(bool(heard.any()), "No UE hears a TRP.", num_ues=len(heard))
    gain, delay, aod, ue_position = (
        values[heard] for values in (gain, delay, aod, ue_position)
    )
    power = np.sum(np.abs(gain) ** 2, axis=2)  # [num_ues, num_trps, num_paths]
    strongest = power.argmax(axis=-1)[..., None]
    tof = np.take_along_axis(delay, strongest, axis=-1)[..., 0]
    direction = np.take_along_axis(aod, strongest[..., None], axis=2)[:, :, 0]
    total = power.sum(axis=-1) / gain.shape[2]
    cir = [
        _taps(gain[i : i + _AT_A_TIME], delay[i : i + _AT_A_TIME], sampling)
        for i in range(0, len(gain), _AT_A_TIME)
    ]
    return {
        "cir": np.concatenate(cir),
        "sampling_rate": np.float64(sampling["sampling_rate"]),
        "bandwidth": np.float64(sampling["bandwidth"]),
        "tof": tof,
        "power": tx_power_dbm + 10 * np.log10(np.maximum(total, _SMALLEST)),
        "aoa": direction,
        "trp_mask": total > 0,
        "trp_position": np.tile(trp_position[None], (len(gain), 1, 1)),
        "ue_position": ue_position,
    }


def _taps(gain: np.ndarray, delay: np.ndarray, sampling: dict[str, Any]) -> np.ndarray:
    """Return CIRs, [num_ues, num_trps, num_ant, num_taps], complex64."""
    shape = gain.shape[:3]
    flat = gain.reshape(-1, *gain.shape[2:]).astype(np.complex64)
    times = delay.reshape(-1, 1, delay.shape[-1]).astype(np.float32)
    real, imag = map(np.asarray, band_limited_taps(flat, times, **sampling))
    return (real + 1j * imag).reshape(*shape, -1).astype(np.complex64)
