"""3GPP indoor factory with dense clutter and high TRPs (InF-DH), no line of sight.

The statistical scenario of the VIn-Loc paper (Sec. 4, Table 2): one factory with TRPs
that stay where they are, and a UE somewhere on its floor. The paper gives: 18 TRPs, one
antenna at each end, only links without line of sight, 256 taps, perfectly known CIRs,
18,000 training and 2,000 test samples; for the variable case a subset of 15 of the 18
TRPs, another one for each sample. What it leaves open is assumed here:

* **Hall and TRPs.** Those of 3GPP's calibration (TR 38.901, Table 7.8-7) and of its
  study on positioning: 120 m x 60 m x 10 m, TRPs at x = 10, 30, ..., 110 m,
  y = 10, 30, 50 m, z = 8 m.
* **UEs.** Uniformly all over the floor, at 1.5 m.
* **Radio.** 3.5 GHz and 100 MHz, as in that study; the taps are sampled at 100 MHz:
  256 of them reach 2.56 us, later than all but 2e-5 of the energy.
* **Clutter.** Density 60 %, height 6 m, size 2 m: with it hardly any link has line of
  sight; the few are left without it.
* **One factory.** Training, validation and test samples are positions in the same
  factory (`factory`), whose channel is a function of the position
  (`channels.indoor_factory`): without that, a fingerprint would tell nothing.
* **Noise.** None, as in the paper. With an SNR, the receiver's noise has the same power
  on every link, so that weak links suffer more; the SNR is that of a link of the mean
  gain, -80 dB (the median is -80.5 dB). Thermal noise of 100 MHz, a noise figure of
  9 dB and 24 dBm from each TRP (Table 7.8-7) would be 29 dB.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.channels.indoor_factory import IndoorFactory
from sionna_loc.channels.indoor_factory_fields import SpatialConsistency
from sionna_loc.checks import (
    check,
    check_not_negative,
    check_number,
    check_positive,
)
from sionna_loc.places.factory_hall import FactoryHall
from sionna_loc.scenarios.base import DropSizes, Scenario

_UES = {"num_ues": 256, "drops_per_block": 8, "num_frozen_ues": 500}
_SMALL_UES = {"num_ues": 32, "drops_per_block": 2, "num_frozen_ues": 32}
_NUM_TRAIN = 18_000
_SMALL_NUM_TRAIN = 128
_UE_HEADROOM = 3.0  # upper end of the box that models scale positions by [m]
_MEAN_LINK_GAIN_DB = -80.0  # of 18,000 links in this hall without line of sight


class IndoorFactoryDH(Scenario):
    """See the module.

    Args:
        small: few UEs, and a small training set, for smoke runs and tests.
        num_train: int >= 0 or None. Samples of the training set, by default the
            paper's 18,000; 0 for ever new positions.
        factory: int >= 0. Seed: another one is another factory.
        ue_area: two corners (x, y) [m] of the floor where UEs are, by default the
            whole floor.
        line_of_sight: `"never"`, `"always"` or `"drawn"`, see `IndoorFactory`.
        autocorrelation: `"exponential"`, `"gaussian"`, `"quadriga"` or `"none"`: how
            the channel changes from place to place, see `SpatialConsistency`.
        correlation_distance: float > 0 [m]. Over which large-scale parameters and
            clusters change; 10 m in TR 38.901.
        sampling_rate: float [Hz], at least the bandwidth.
        snr_db: float or None [dB]. Power received over a link of the mean gain, over
            the power of the noise in each tap; no noise if None.
        trp_sync_error, ue_clock_offset: float >= 0 [s], see `IndoorFactory`.
        trp_position_error: float >= 0 [m]. See `features.cir_tokens.CirTokens`.

    Raises: UserError for a value that cannot be.
    """

    name = "inf_dh"
    carrier_frequency = 3.5e9
    bandwidth = 100e6
    num_taps = 256
    num_trps = 18
    min_trps = 1
    has_walls = False  # a statistical channel

    def __init__(
        self,
        *,
        small: bool = False,
        num_train: int | None = None,
        factory: int = 0,
        ue_area: Sequence[Sequence[float]] | None = None,
        line_of_sight: str = "never",
        autocorrelation: str = "exponential",
        correlation_distance: float = 10.0,
        sampling_rate: float = 100e6,
        snr_db: float | None = None,
        trp_sync_error: float = 0.0,
        ue_clock_offset: float = 0.0,
        trp_position_error: float = 0.0,
    ) -> None:
        if num_train is None:
            num_train = _SMALL_NUM_TRAIN if small else _NUM_TRAIN
        is_count = isinstance(num_train, int) and not isinstance(num_train, bool)
        check(
            is_count and num_train >= 0,
            "`num_train` must be a whole number of 1 or more, or 0 for ever new "
            "positions.",
            num_train=num_train,
        )
        check_positive("sampling_rate", sampling_rate)
        check(
            sampling_rate >= self.bandwidth,
            f"`sampling_rate` must be at least the bandwidth of {self.bandwidth:g} Hz.",
            sampling_rate=sampling_rate,
        )
        if snr_db is not None:
            check_number("snr_db", snr_db)
            self.noise_power_db = _MEAN_LINK_GAIN_DB - snr_db
        check_not_negative("trp_position_error", trp_position_error)
        self.num_train = num_train
        self.sampling_rate = sampling_rate
        self.trp_position_error = trp_position_error
        # Without correlation there is nothing to know of a place.
        self.is_one_place = autocorrelation != "none"
        self.place = FactoryHall()
        corners = self.place.ue_region[:, :2] if ue_area is None else ue_area
        self.ue_area = _check_area(corners, self.place)
        lower, upper = self.place.region
        self.region = np.array([lower, [*upper[:2], _UE_HEADROOM]])
        self.trp_position = self.place.trp_position
        ues = _SMALL_UES if small else _UES
        super().__init__(
            DropSizes(num_sites=len(self.trp_position), subsets_per_ue=1, **ues),
            IndoorFactory(
                self.place,
                sub_scenario="dh",
                seed=factory,
                carrier_frequency=self.carrier_frequency,
                line_of_sight=line_of_sight,
                consistency=SpatialConsistency(
                    shape=autocorrelation,
                    large_scale=correlation_distance,
                    clusters=correlation_distance,
                ),
                trp_sync_error=trp_sync_error,
                ue_clock_offset=ue_clock_offset,
            ),
        )

    def positions(self, seed: tf.Tensor, num_ues: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the TRPs, always the same, and UEs anywhere; see `Scenario`."""
        lower, upper = self.ue_area
        uniform = tf.random.stateless_uniform([num_ues, 2], seed)
        plan = lower + (upper - lower) * uniform
        height = tf.fill([num_ues, 1], np.float32(self.place.ue_height))
        return tf.constant(self.trp_position), tf.concat([plan, height], axis=1)

    def config(self) -> dict[str, Any]:
        """Return what changes the data, as JSON can hold it.

        Not `num_train`, which only says how much of the data there is: validation and
        test sets are the same for all of its values.
        """
        return {**super().config(), "ue_area": self.ue_area.tolist()}


def _check_area(corners: Any, hall: FactoryHall) -> np.ndarray:
    """Return the corners [2, 2], float32 [m], or raise `UserError`."""
    message = "`ue_area` must be a lower and an upper corner, [[x, y], [x, y]], in m."
    try:
        area = np.asarray(corners, np.float32)
    except (TypeError, ValueError):
        area = np.empty(0, np.float32)
    is_area = area.shape == (2, 2) and bool((area[0] <= area[1]).all())
    check(is_area, message, ue_area=corners)
    at_height = np.concatenate([area, np.full((2, 1), hall.ue_height)], axis=1)
    check(
        bool(hall.contains(at_height).all()),
        f"UEs must be in the hall of {hall.length:g} m x {hall.width:g} m.",
        ue_area=corners,
    )
    return area
