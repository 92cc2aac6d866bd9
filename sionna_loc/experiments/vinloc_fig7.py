"""Figure 7 of the VIn-Loc paper: a channel of a few paths over angle and delay.

Nothing is trained. Of the first samples of the test set of Paris Scenario 2, the link
is shown whose two strongest paths are the furthest apart in delay and direction while
the weaker one is at most 10 dB below the other.

References: Balaji et al., "VIn-Loc", Sec. 4, "Scenario 2", Fig. 7.
"""

from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc.antennas import PlanarArray, direction_vectors
from sionna_loc.checks import check
from sionna_loc.device import use_device
from sionna_loc.experiments import reports
from sionna_loc.experiments.figures import AngleDelayImage, angle_delay_figure
from sionna_loc.layers.angle_delay import AngleDelay
from sionna_loc.plotting import save_figure
from sionna_loc.registry import get_scenario
from sionna_loc.signals import array_phase, band_limited_taps

_NUM_SAMPLES = 16
_MOST_BELOW_DB = 10.0
_NUM_AZIMUTHS = 181


def run(
    budget: str,
    output: Path,
    *,
    small: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> str:
    """Draw the test set, if need be; write `fig7.json`, `.csv`, `.png` and `.pdf`.

    Args:
        budget: both are the same.
        output: folder.
        small: bool. Of the small scenario.
        device: `"auto"`, `"cpu"` or `"gpu"`.
        quiet: bool. Nothing is printed anyway.

    Returns: the paths of the link as text.
    Raises: UserError if `output` cannot be written.
    """
    del budget, quiet
    reports.prepare(output)
    use_device(device)
    scenario = get_scenario("paris_scn2", small=small)
    links = [
        {
            name: batch[name].flat_values.numpy()
            for name in ("path_gain", "path_delay", "path_aoa")
        }
        for batch in scenario.frozen("test", _NUM_SAMPLES)
    ]
    paths = {name: np.concatenate([part[name] for part in links]) for name in links[0]}
    link = {name: values[choose_link(**paths)] for name, values in paths.items()}
    image = make_image(link, scenario)
    save_figure(angle_delay_figure(image), output / "fig7")
    records = _records(link)
    reports.write(output, "fig7", records)
    rows = [["path", "delay [ns]", "power [dB]", "zenith [deg]", "azimuth [deg]"]]
    rows += [
        [str(number + 1), *(f"{value:.1f}" for value in record.values())]
        for number, record in enumerate(records)
    ]
    return reports.text_table("Paths of the link", rows)


def choose_link(
    path_gain: np.ndarray, path_delay: np.ndarray, path_aoa: np.ndarray
) -> int:
    """Return the number of the link to show, see the module.

    Args:
        path_gain: [num_links, num_paths], complex, strongest first.
        path_delay: [num_links, num_paths] [s].
        path_aoa: [num_links, num_paths, 2] [rad].

    Raises: UserError if no link has two paths of similar strength.
    """
    strength = np.abs(path_gain)
    ratio = strength[:, 1] / np.maximum(strength[:, 0], 1e-30)
    fits = ratio >= 10 ** (-_MOST_BELOW_DB / 20)
    check(bool(fits.any()), "No link has two paths to show.", num_links=len(fits))
    cosines = direction_vectors(path_aoa[:, :2])[..., :2]  # east, north
    apart = np.linalg.norm(cosines[:, 0] - cosines[:, 1], axis=-1)
    later = np.abs(path_delay[:, 1] - path_delay[:, 0])
    # Of each what is as much as the most that there is.
    score = apart / apart[fits].max() + later / later[fits].max()
    return int(np.argmax(np.where(fits, score, -1.0)))


def make_image(link: dict[str, np.ndarray], scenario: Any) -> AngleDelayImage:
    """Return a link over antennas, beams and azimuths, each against the delay.

    Args:
        link: `path_gain` [num_paths], `path_delay` [num_paths] [s], strongest first,
            and `path_aoa` [num_paths, 2] [rad].
        scenario: whose antennas and taps are taken.
    """
    array: PlanarArray = scenario.ue_array
    phase = np.asarray(
        array_phase(link["path_aoa"].astype(np.float32), array.element_position)
    )  # [num_ant, num_paths]
    gain = link["path_gain"] * np.exp(1j * phase)
    real, imag = band_limited_taps(
        gain.astype(np.complex64),
        np.broadcast_to(link["path_delay"], gain.shape).astype(np.float32),
        num_taps=scenario.num_taps,
        sampling_rate=scenario.sampling_rate,
        bandwidth=scenario.bandwidth,
    )
    cir = np.stack([np.asarray(real), np.asarray(imag)], axis=-1)
    beams = np.asarray(AngleDelay(array.num_rows, array.num_columns)(cir[None]))[0]
    exists = np.abs(link["path_gain"]) > 0
    zenith = float(link["path_aoa"][0, 0])
    azimuth = np.linspace(-np.pi, np.pi, _NUM_AZIMUTHS)
    looking = np.stack([np.full_like(azimuth, zenith), azimuth], axis=-1)
    steering = np.asarray(
        array_phase(looking.astype(np.float32), array.element_position)
    )  # [num_ant, num_azimuths]
    towards = np.exp(-1j * steering).T @ (cir[..., 0] + 1j * cir[..., 1])
    return AngleDelayImage(
        antennas=np.hypot(*np.moveaxis(cir, -1, 0)),
        beams=np.hypot(*np.moveaxis(beams, -1, 0)),
        azimuths=np.abs(towards) / np.sqrt(array.num_ant),
        beam_directions=array.beam_directions,
        azimuth=np.degrees(azimuth),
        zenith=np.degrees(zenith),
        delay=1e9 * np.arange(scenario.num_taps) / scenario.sampling_rate,
        path_delay=1e9 * link["path_delay"][exists],
        path_azimuth=np.degrees(link["path_aoa"][exists, 1]),
    )


def _records(link: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Return the paths, for people."""
    records = []
    for gain, delay, aoa in zip(
        link["path_gain"], link["path_delay"], link["path_aoa"], strict=True
    ):
        if abs(gain) > 0:
            zenith, azimuth = np.degrees(aoa)
            records.append(
                {
                    "delay_ns": 1e9 * float(delay),
                    "power_db": 20 * float(np.log10(abs(gain))),
                    "zenith": float(zenith),
                    "azimuth": float(azimuth),
                }
            )
    return records
