import keras
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.layers.trp_slots import TrpSlots

SITES = np.array([[30, 0, 8], [10, 20, 8], [10, 0, 8]], "float32")
IN_ORDER = np.array([[10, 0, 8], [10, 20, 8], [30, 0, 8]], "float32")


@pytest.fixture
def own():
    slots = TrpSlots(4)
    slots.adapt([SITES[:2], SITES[1:]])
    return slots


def fill(slots, trps, mask=None):
    """One sample whose values are 1, 2, ... times (1, 10)."""
    number = np.arange(1, len(trps) + 1, dtype="float32")
    values = number[:, None] * np.array([1, 10], "float32")
    mask = np.ones(len(trps), bool) if mask is None else np.array(mask)
    filled = slots(values[None], np.asarray(trps, "float32")[None], mask[None])
    return [keras.ops.convert_to_numpy(x)[0] for x in filled]


def test_each_trp_has_its_own_slot_whatever_the_order(own):
    np.testing.assert_array_equal(np.asarray(own.site_position)[:3], IN_ORDER)
    values, filled = fill(own, SITES)
    np.testing.assert_array_equal(values, [[3, 30], [2, 20], [1, 10], [0, 0]])
    np.testing.assert_array_equal(filled, [True, True, True, False])
    values, _ = fill(own, SITES[::-1])
    np.testing.assert_array_equal(values, [[1, 10], [2, 20], [3, 30], [0, 0]])


def test_slots_of_missing_and_masked_trps_stay_empty(own):
    values, filled = fill(own, SITES, [True, False, True])
    np.testing.assert_array_equal(values, [[3, 30], [0, 0], [1, 10], [0, 0]])
    np.testing.assert_array_equal(filled, [True, False, True, False])


def test_a_trp_may_stand_a_little_elsewhere_and_the_nearest_site_counts():
    slots = TrpSlots(3, tolerance=12.0)
    slots.adapt([SITES])
    moved = SITES + np.array([[11, 0, 0], [-3, -6, 2], [0, 9, 0]], "float32")
    values, filled = fill(slots, moved)  # the last is within 12 m of two
    np.testing.assert_array_equal(values, [[3, 30], [2, 20], [1, 10]])
    assert filled.all()
    assert not fill(TrpSlots(3), moved)[1].any()
    _, filled = fill(slots, SITES + np.array([0, 0, 13], "float32"))
    assert not filled.any()
    assert TrpSlots.from_config(slots.get_config()).tolerance == 12.0
    with pytest.raises(UserError, match="tolerance=0"):
        TrpSlots(3, tolerance=0)


def test_drawn_slots_hold_the_trps_in_their_order():
    slots = TrpSlots(3, "drawn")
    slots.adapt([SITES])
    values, filled = fill(slots, SITES[::-1])
    np.testing.assert_array_equal(values, [[1, 10], [2, 20], [3, 30]])
    assert filled.all()
    padded = np.concatenate([SITES, SITES[:1]])
    values, _ = fill(slots, padded, [True, True, True, False])
    np.testing.assert_array_equal(values, [[1, 10], [2, 20], [3, 30]])


def test_trps_that_do_not_fit_are_one_clear_line(own):
    own.check_trps([SITES[:1], SITES])
    with pytest.raises(UserError, match=r"another place.*\[\[5.0, 5.0, 5.0\]\]"):
        own.check_trps([SITES, np.full((1, 3), 5.0, "float32")])
    drawn = TrpSlots(3, "drawn")
    drawn.check_trps([SITES])
    with pytest.raises(UserError, match=r"needs 3 TRPs in each sample.*num_trps=2"):
        drawn.check_trps([SITES, SITES[:2]])
    with pytest.raises(UserError, match=r"2 slots.*num_places=3"):
        TrpSlots(2).adapt([SITES])


def test_wrong_arguments_are_refused():
    with pytest.raises(
        UserError, match=r"'own', 'drawn' or 'sorted'.*order='shuffled'"
    ):
        TrpSlots(3, "shuffled")
    with pytest.raises(UserError, match="num_slots"):
        TrpSlots(0)


def test_config_round_trip():
    slots = TrpSlots(5, "drawn")
    assert TrpSlots.from_config(slots.get_config()).get_config() == slots.get_config()
