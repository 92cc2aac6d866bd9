"""From antennas and taps to angles of arrival and times of flight."""

from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive_int


@keras.saving.register_keras_serializable(package="sionna_loc")
class AngleDelay(keras.layers.Layer):
    """Channel over antennas and taps -> over beams and taps, by a 2-D DFT.

    The taps of a channel impulse response are the delay axis already, so that of the
    paper's two-dimensional transform the part over the antennas is left: a DFT over
    the rows and columns of the array, beams ordered from the most negative direction
    cosine on. A path becomes a peak at its direction and time of flight. The transform
    is unitary; `antennas.PlanarArray` gives the beams' directions in degrees.

    Args:
        num_rows: int > 0. Rows of the array.
        num_columns: int > 0. Columns of the array.

    Call arguments:
        cir: [..., num_rows * num_columns, num_taps, 2], float. Real and imaginary part.

    Returns: [..., num_rows * num_columns, num_taps, 2], float, beams in place of the
        antennas.
    Raises: UserError (a ValueError) if the antennas do not fit.
    References: Balaji et al., "VIn-Loc", Sec. 4, "Scenario 2" and Fig. 7;
        Ayyalasomayajula et al., "Deep Learning based Wireless Localization for Indoor
        Navigation", Sec. 4.
    """

    def __init__(self, num_rows: int, num_columns: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_rows", num_rows)
        check_positive_int("num_columns", num_columns)
        self.num_rows = num_rows
        self.num_columns = num_columns
        # [num_beams, num_ant], antennas and beams counted row by row.
        transform = np.kron(_centred_dft(num_rows), _centred_dft(num_columns))
        real, imag = transform.real, transform.imag
        # On real parts above imaginary ones, [2 * num_beams, 2 * num_ant].
        matrix = np.block([[real, -imag], [imag, real]])
        self._matrix = matrix.astype("float32")
        self.built = True

    def call(self, cir: keras.KerasTensor) -> keras.KerasTensor:
        """Transform."""
        check(
            cir.shape[-3] == self.num_rows * self.num_columns,
            f"The array has {self.num_rows} x {self.num_columns} antennas.",
            cir_shape=tuple(cir.shape),
        )
        # [..., 2 * num_ant, num_taps]: on whole rows of taps this is fast on a CPU.
        parts = ops.concatenate([cir[..., 0], cir[..., 1]], axis=-2)
        real, imag = ops.split(ops.matmul(self._matrix, parts), 2, axis=-2)
        return ops.swapaxes(ops.stack([real, imag], axis=-2), -1, -2)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return the inputs' shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_rows": self.num_rows,
            "num_columns": self.num_columns,
        }


def _centred_dft(size: int) -> np.ndarray:
    """Return the unitary DFT, lowest frequency first, [frequencies, places]."""
    frequency = np.arange(size) - size // 2
    place = np.arange(size) - (size - 1) / 2
    return np.exp(-2j * np.pi * np.outer(frequency, place) / size) / np.sqrt(size)
