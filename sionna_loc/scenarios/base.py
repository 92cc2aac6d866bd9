"""What every scenario does: a place, a channel and radio numbers -> samples."""

import abc
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.antennas import PlanarArray
from sionna_loc.channels.base import Channel
from sionna_loc.checks import check, check_positive_int
from sionna_loc.data import epochs, frozen, streaming, tracks
from sionna_loc.scenarios.source import SampleSource


@dataclass(frozen=True)
class DropSizes:
    """How much one drop holds, and how drops are mixed.

    Args:
        num_sites: TRP sites of a drop.
        num_ues: UEs of a drop.
        subsets_per_ue: samples that each UE gives, each with TRPs of its own.
        drops_per_block: drops whose samples are shuffled together.
        num_frozen_ues: UEs of a drop of the frozen sets, which take many drops with
            few UEs each so that they cover many TRP places.
    """

    num_sites: int
    num_ues: int
    subsets_per_ue: int
    drops_per_block: int
    num_frozen_ues: int

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name, value in asdict(self).items():
            check_positive_int(name, value)

    @property
    def samples_per_block(self) -> int:
        """Number of samples that are shuffled together."""
        return self.num_ues * self.subsets_per_ue * self.drops_per_block


class Scenario(SampleSource):
    """A place, a channel and radio numbers, from which samples are drawn.

    A subclass owes

    * the attributes below and those of `SampleSource`, `name` being its key in the
      registry;
    * `positions`, and `config` where numbers of its own change the data;
    * the option `small` of its constructor: few sites and UEs, for smoke runs and
      tests. Further options are what `--scenario-option` takes.

    Args:
        sizes: sizes of a drop.
        channel: what gives the paths between positions.
    """

    carrier_frequency: float
    bandwidth: float
    sampling_rate: float
    num_taps: int
    min_trps: int
    ue_array = PlanarArray()
    """Antennas of the UE; they are applied to the paths, which know nothing of them."""
    synchronised = True
    """Whether TRPs and UE share a time base."""
    noise_power_db: float | None = None
    """Receiver noise in each tap, relative to what is transmitted [dB]; None: none."""
    trp_position_error = 0.0
    """Standard deviation of where TRPs are said to stand, per coordinate [m]."""
    data_version = "1.0.0"
    """To be raised, here and in the recipe of the stored set, when the same
    configuration gives other samples than before."""

    def __init__(self, sizes: DropSizes, channel: Channel) -> None:
        self.sizes = sizes
        self.channel = channel

    @property
    def num_sites(self) -> int:
        """TRP sites of a drop."""
        return self.sizes.num_sites

    @property
    def num_ues(self) -> int:
        """UEs of a drop."""
        return self.sizes.num_ues

    @property
    def subsets_per_ue(self) -> int:
        """Samples that each UE of a drop gives."""
        return self.sizes.subsets_per_ue

    @property
    def num_paths(self) -> int:
        """Most paths per link."""
        return self.channel.num_paths

    @abc.abstractmethod
    def positions(self, seed: tf.Tensor, num_ues: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Draw the positions of a drop, as a pure function of the seed.

        Args:
            seed: [2], integer.
            num_ues: int > 0.

        Returns: positions of the TRP sites [num_sites, 3] and of the UEs
            [num_ues, 3], float32 [m].
        """

    def split_positions(self, split: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return whose links a frozen set holds, if the scenario itself says so.

        Args:
            split: `"train"`, `"validation"` or `"test"`.

        Returns: positions of the TRP sites [num_sites, 3] and of the UEs of the set
            [num_ues, 3], float32 [m]; here `None`: both are drawn, as many as asked
            for.
        """
        del split

    def drop(
        self,
        seed: tf.Tensor | tuple[int, int],
        num_ues: int | None = None,
        split: str = "train",
    ) -> dict[str, tf.Tensor]:
        """Draw positions and trace all links between them.

        Args:
            seed: [2], integer. The drop is a pure function of it.
            num_ues: int > 0. Number of UEs, by default the scenario's.
            split: `"train"`, `"validation"` or `"test"`: whose places they are. Here
                all splits have the same, and seeds of their own.

        Returns: `trp_position` [num_sites, 3], `ue_position` [num_ues, 3], and the
            fields of `Channel`, [num_ues, num_sites, ...].
        """
        del split
        seed = tf.convert_to_tensor(seed)
        trp_position, ue_position = self.positions(seed, num_ues or self.num_ues)
        paths = self.channel(trp_position, ue_position, seed)
        return {"trp_position": trp_position, "ue_position": ue_position, **paths}

    def stream(
        self, seed: int = 0, num_trps: int | None = None, start: int = 0
    ) -> tf.data.Dataset:
        """Return the endless stream of single samples, as `sample.FIELDS` says.

        Args:
            seed: int. The same seed gives the same samples.
            num_trps: int > 0. TRPs of a sample, heard or not; the scenario's number
                by default.
            start: int >= 0. Index of the first sample.
        """
        return streaming.stream(self, seed=seed, num_trps=num_trps, start=start)

    def batches(
        self,
        batch_size: int,
        seed: int = 0,
        num_trps: int | None = None,
        start: int = 0,
        fields: tuple[str, ...] | None = None,
        emphasis: float = 0.0,
        keep_silent: bool = False,
        window: int = 1,
        augment: str | None = None,
    ) -> tf.data.Dataset:
        """Return what models train on, see `SampleSource.batches`.

        These are the samples of the stream, only faster; or, if `num_train` is not 0,
        endless passes over that many samples, see `data.epochs`. With a prepared set,
        the drops of the stream are those of the set, over and over, each time with
        other TRPs for each sample. Of a TRP that is not heard, `num_paths` is 0.
        """
        tracks.check_window(self, window)
        options = {
            "seed": seed,
            "num_trps": num_trps,
            "start": start,
            "fields": fields,
            "keep_silent": keep_silent,
            "augment": augment,
        }
        if self.num_train:
            per_ue = self.subsets_per_ue
            return epochs.batches(
                self,
                self.num_train,
                batch_size,
                samples_per_ue=per_ue,
                window=window,
                **options,
            )
        check(window == 1, "Windows need a training set of fixed size.", window=window)
        return streaming.batches(self, batch_size, **options, emphasis=emphasis)

    def frozen(
        self,
        split: str,
        num_samples: int,
        num_trps: int | None = None,
        batch_size: int = 64,
        fields: tuple[str, ...] | None = None,
        keep_silent: bool = False,
        window: int = 1,
    ) -> tf.data.Dataset:
        """Return a fixed set of samples, see `SampleSource.frozen`.

        The stream never shows them: they are drawn once from seeds of their own, so
        that TRP sites and UEs are not the stream's, and cached on disk. Every
        `num_trps` sees the same UEs and sites. With `site_sets`, each UE gives
        `subsets_per_ue` samples, and of the samples those are left out that hear too
        few of their TRPs.
        """
        return frozen.batches(
            self,
            split,
            num_samples,
            num_trps=num_trps,
            batch_size=batch_size,
            fields=fields,
            keep_silent=keep_silent,
            window=window,
        )

    def config(self) -> dict[str, Any]:
        """Return everything that changes the data, as JSON can hold it."""
        return {
            "name": self.name,
            "carrier_frequency": self.carrier_frequency,
            "bandwidth": self.bandwidth,
            "sampling_rate": self.sampling_rate,
            "num_taps": self.num_taps,
            "num_trps": self.num_trps,
            "min_trps": self.min_trps,
            "region": np.asarray(self.region).tolist(),
            "sizes": asdict(self.sizes),
            "channel": self.channel.config(),
        }
