"""RF fingerprinting by a residual network on the picture of all CIRs."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from sionna_loc.checks import check, check_list, check_positive_int
from sionna_loc.layers.residual_block import ResidualBlock2D
from sionna_loc.models.fingerprint import Fingerprint


@keras.saving.register_keras_serializable(package="sionna_loc")
class ResNetFingerprint(Fingerprint):
    """Residual network on an image with a row for each TRP and a column for each tap.

    The features are flattened, not averaged over the image, before the output layers:
    which TRP and which delay they belong to is what the position follows from.

    What a row stands for decides what happens when only some of the TRPs are drawn.
    With `slots="drawn"`, as in the VIn-Loc paper's comparison, the rows hold whichever
    TRPs were drawn, and the network, trained for that number, takes no other. With
    `slots="own"` each TRP keeps its row, and that of a missing one is zero.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        num_trps: int > 0. TRPs of a sample: the rows of `slots="drawn"`.
        num_sites: int > 0. TRPs of the site: the rows of `slots="own"`.
        slots: `"own"` or `"drawn"`.
        filters: ints > 0. Channels of the stages; from the second stage on, each
            halves rows and columns.
        blocks_per_stage: int > 0.
        tap_fold: int > 0. Neighbouring taps that enter as channels; divides
            `num_taps`.
        head_units: int > 0. Width of the hidden output layer.
        input_scaling: `"log"` or `"linear"`, see `CirScaling`.

    Call arguments: see `Localizer`.

    Returns: dict with `position` [batch, 3] [m].
    Raises: UserError (a ValueError) if a size is not positive or does not fit, or
        if the TRPs of a sample do not fit the slots, see `Fingerprint`.
    References: He et al., "Deep Residual Learning for Image Recognition"; Balaji et
        al., "VIn-Loc", Sec. 4 (RF fingerprinting; the network itself is not given).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "compact": {"filters": (32, 64, 128), "blocks_per_stage": 1, "tap_fold": 8},
        "resnet18": {
            "filters": (64, 128, 256, 512),
            "blocks_per_stage": 2,
            "tap_fold": 4,
        },
    }
    DEFAULT_PRESET = "compact"

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int = 1,
        num_trps: int = 18,
        num_sites: int = 18,
        slots: str = "own",
        filters: Sequence[int] = (32, 64, 128),
        blocks_per_stage: int = 1,
        tap_fold: int = 8,
        head_units: int = 256,
        input_scaling: str = "log",
        **kwargs: Any,
    ) -> None:
        for name, value in (
            ("num_trps", num_trps),
            ("num_sites", num_sites),
            ("blocks_per_stage", blocks_per_stage),
            ("tap_fold", tap_fold),
            ("head_units", head_units),
        ):
            check_positive_int(name, value)
        check_list("filters", filters)
        super().__init__(
            region,
            num_taps,
            sampling_rate,
            num_ant,
            num_trps if slots == "drawn" else num_sites,
            slots,
            input_scaling,
            **kwargs,
        )
        check(
            num_taps % tap_fold == 0,
            "`tap_fold` must divide the number of taps.",
            tap_fold=tap_fold,
            num_taps=num_taps,
        )
        self.num_trps = num_trps
        self.num_sites = num_sites
        self.filters = tuple(filters)
        self.blocks_per_stage = blocks_per_stage
        self.tap_fold = tap_fold
        self.head_units = head_units
        self._create_layers()
        self.built = True

    def call(
        self, inputs: dict[str, Any], training: bool | None = None
    ) -> dict[str, keras.KerasTensor]:
        """Locate, see the class."""
        response, _ = self._fill_slots(inputs)
        x = self._to_image(response)
        x = ops.relu(self._stem_norm(self._stem(x), training=training))
        for block in self._blocks:
            x = block(x, training=training)
        x = ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        return {"position": ops.array(self._center) + self._scale * self._head(x)}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_trps": self.num_trps,
            "num_sites": self.num_sites,
            "slots": self.slots.order,
            "filters": self.filters,
            "blocks_per_stage": self.blocks_per_stage,
            "tap_fold": self.tap_fold,
            "head_units": self.head_units,
        }

    def _create_layers(self) -> None:
        """Create and build all layers; their shapes follow from the arguments."""
        columns = self.num_taps // self.tap_fold
        channels = 3 * self.num_ant * self.tap_fold
        shape = (None, self.slots.num_slots, columns, channels)
        first = self.filters[0]
        self._stem = layers.Conv2D(first, 3, padding="same", use_bias=False)
        self._stem.build(shape)
        shape = (*shape[:-1], first)
        self._stem_norm = layers.BatchNormalization(momentum=0.9)
        self._stem_norm.build(shape)
        self._blocks = []
        for stage, filters in enumerate(self.filters):
            for index in range(self.blocks_per_stage):
                halves = stage > 0 and index == 0
                block = ResidualBlock2D(filters, (2, 2) if halves else (1, 1))
                block.build(shape)
                shape = block.compute_output_shape(shape)
                self._blocks.append(block)
        flat = int(np.prod(shape[1:]))
        hidden = layers.Dense(self.head_units, activation="relu")
        self._head = keras.Sequential([hidden, layers.Dense(3)])
        self._head.build((None, flat))

    def _to_image(self, response: keras.KerasTensor) -> keras.KerasTensor:
        """[batch, slots, units] -> [batch, slots, taps / fold, channels]."""
        slots, columns = self.slots.num_slots, self.num_taps // self.tap_fold
        shape = (-1, slots, self.num_ant, columns, 3 * self.tap_fold)
        response = ops.transpose(ops.reshape(response, shape), (0, 1, 3, 2, 4))
        return ops.reshape(response, (*shape[:2], columns, shape[2] * shape[4]))
