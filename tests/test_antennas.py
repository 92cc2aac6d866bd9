import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError


def test_elements_are_counted_row_by_row():
    array = PlanarArray(2, 3, spacing=0.6)
    places = [[x, y, 0] for x in (-0.3, 0.3) for y in (-0.6, 0, 0.6)]

    assert array.num_ant == 6
    np.testing.assert_allclose(array.element_position, places, atol=1e-7)


def test_beams_of_a_column_of_four_at_half_a_wavelength():
    """Cosines to the north of -1, -1/2, 0 and 1/2."""
    array = PlanarArray(1, 4)

    np.testing.assert_allclose(
        array.beam_cosines, [[0, -1], [0, -0.5], [0, 0], [0, 0.5]], atol=1e-12
    )
    np.testing.assert_allclose(
        array.beam_directions, [[90, -90], [30, -90], [0, 0], [30, 90]], atol=1e-9
    )


def test_beams_outside_of_space_have_no_direction():
    directions = PlanarArray(2, 4).beam_directions

    assert np.isnan(directions[0]).all()  # Cosines -1 and -1.
    np.testing.assert_allclose(directions[2], [90, 180], atol=1e-9)  # -1 and 0.


def test_round_trip():
    array = PlanarArray(2, 4, 0.4)
    assert PlanarArray(**array.to_dict()) == array


@pytest.mark.parametrize(
    "bad", [{"num_rows": 0}, {"num_columns": 1.5}, {"spacing": 0.0}]
)
def test_bad_numbers_are_refused(bad):
    with pytest.raises(UserError, match=f"Received: {next(iter(bad))}="):
        PlanarArray(**bad)
