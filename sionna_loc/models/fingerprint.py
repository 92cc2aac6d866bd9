"""What localizers have in common that know each TRP by its slot."""

import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive, check_positive_int
from sionna_loc.layers.cir_scaling import NUM_ADAPT_BATCHES, CirScaling
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.layers.trp_slots import TrpSlots
from sionna_loc.models.base import Localizer


class Fingerprint(Localizer):
    """Localizer of a site whose TRPs stay where they are.

    It takes the same inputs as every localizer, a set of TRPs, and puts them into
    slots. Unlike a localizer that looks at the places of the TRPs it has to refuse
    TRPs that it does not know, and, where a slot stands for no TRP in particular,
    another number of them.

    Args:
        region: [2, 3], float [m]. Box of the UEs.
        num_taps: int > 0. Taps of each CIR.
        sampling_rate: float > 0 [Hz]. Of the taps.
        num_ant: int > 0. UE antennas.
        num_slots: int > 0. See `TrpSlots`.
        slots: `"own"` or `"drawn"`, the `order` of `TrpSlots`.
        input_scaling: `"log"` or `"linear"`, see `CirScaling`.
        dynamic_range_db: float > 0 [dB]. See `CirScaling`.
        **kwargs: of `keras.Model`.

    Call arguments: see `Localizer`.

    Raises: UserError (a ValueError) if a size is not positive, or, in `adapt` and
        `predict_on_batch`, if the TRPs of a sample do not fit the slots.
    """

    use_trp_positions = False  # only to tell one TRP from another

    def __init__(
        self,
        region: Any,
        num_taps: int,
        sampling_rate: float,
        num_ant: int,
        num_slots: int,
        slots: str,
        input_scaling: str,
        dynamic_range_db: float = 60.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(region, **kwargs)
        check_positive_int("num_taps", num_taps)
        check_positive_int("num_ant", num_ant)
        check_positive("sampling_rate", sampling_rate)
        known = slots in ("own", "drawn")
        check(known, "`slots` must be 'own' or 'drawn'.", slots=slots)
        self.num_taps = num_taps
        self.sampling_rate = sampling_rate
        self.num_ant = num_ant
        self.input_scaling = input_scaling
        self.scaling = CirScaling(input_scaling, dynamic_range_db)
        self.slots = TrpSlots(num_slots, slots)

    @property
    def fixed_num_trps(self) -> int | None:
        """TRPs that every sample must have, `None` if any number will do."""
        return self.slots.num_slots if self.slots.order == "drawn" else None

    def adapt(self, dataset: Iterable[tuple[dict[str, Any], Any]]) -> None:
        """Set the slots and the reference level from the first batches.

        Args:
            dataset: batches of (inputs, targets).

        Raises: UserError if the TRPs do not fit the slots.
        """
        batches = [x for x, _ in itertools.islice(dataset, NUM_ADAPT_BATCHES)]
        tokens = [TokenSet.from_inputs(inputs) for inputs in batches]
        self.scaling.adapt([ops.convert_to_numpy(token.cir) for token in tokens])
        self.slots.adapt([ops.convert_to_numpy(t.trp_position) for t in tokens])
        for inputs in batches:
            self.check_trps(inputs)

    def check_trps(self, inputs: dict[str, Any]) -> None:
        """Raise `UserError` unless the slots can hold the TRPs of each sample."""
        tokens = TokenSet.from_inputs(inputs)
        dense = tokens.densify(tokens.trp_position)
        position, mask = map(ops.convert_to_numpy, dense)
        self.slots.check_trps([position[i][heard] for i, heard in enumerate(mask)])

    def predict_on_batch(self, x: dict[str, Any]) -> dict[str, Any]:
        """Locate a batch whose TRPs are known; see `keras.Model`."""
        self.check_trps(x)
        return super().predict_on_batch(x)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_taps": self.num_taps,
            "sampling_rate": self.sampling_rate,
            "num_ant": self.num_ant,
            "input_scaling": self.input_scaling,
        }

    def _fill_slots(
        self, inputs: dict[str, Any]
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return what `_describe` says of each TRP by slot, and which are filled.

        Returns: [batch, num_slots, units], float, and [batch, num_slots], bool.
        """
        tokens = TokenSet.of_cirs(inputs, self.num_ant, self.num_taps)
        features = self._describe(tokens.cir)
        features = ops.reshape(features, (-1, int(np.prod(features.shape[1:]))))
        return self.slots(*tokens.densify(features, tokens.trp_position))

    def _describe(self, cir: keras.KerasTensor) -> keras.KerasTensor:
        """[num_tokens, num_ant, num_taps, 2] -> [num_tokens, num_ant, num_taps, ...].

        Here the scaled response, its last axis {real, imaginary, magnitude}.
        """
        return self.scaling(cir)
