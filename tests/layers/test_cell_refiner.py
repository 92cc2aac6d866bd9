import keras
import numpy as np
import pytest

from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError
from sionna_loc.layers.angle_spectrum import AngleSpectrum
from sionna_loc.layers.cell_refiner import CellRefiner
from sionna_loc.signals import array_phase

TAPS_PER_METRE, NUM_TAPS, SIDE, HEIGHT = 0.7, 128, 10.0, 1.5
TRP = np.array([[60, 10, 20], [-45, 55, 22], [-40, -50, 18], [20, -60, 24]], "f")
CENTERS = np.array([[[5, 5], [15, 5]]], "f")
UE = np.array([6.9, 3.3, HEIGHT], "f")


def make(log_weight=None, channels=3, stride=1, num_images=0, **options):
    keras.utils.set_random_seed(0)
    numbers = SIDE, 4, HEIGHT, TAPS_PER_METRE, stride
    layer = CellRefiner(*numbers, units=8, channels=3, **options)
    taps = (None, None, NUM_TAPS, channels)
    links = (None, None, 3), (None, None)
    images = (None, None, num_images, 3) if num_images else None
    layer.build(taps, *links, (None, 2, 2), (None, 2, 5), images_shape=images)
    if log_weight is not None:
        layer._range.bias.assign([0.0, log_weight])
    return layer


def exact(trp=TRP, channels=3, ue=UE):
    """Evidence of links whose direct path is where it should be; TRPs; mask."""
    distance = np.linalg.norm(trp - ue, axis=-1)
    until = distance[:, None] * TAPS_PER_METRE - np.arange(NUM_TAPS)
    rest = np.random.default_rng(0).normal(size=(len(trp), NUM_TAPS, channels - 1))
    evidence = np.concatenate([until[..., None], rest], axis=-1)
    return evidence[None].astype("f"), trp[None], np.ones((1, len(trp)), bool)


def known(height=HEIGHT, deviation=0.5):
    """Cells, what is known of them, and of the height."""
    level = np.array([[height]], "f"), np.array([[deviation]], "f")
    return CENTERS, features(), level


def features():
    return np.random.default_rng(1).normal(size=(1, 2, 5)).astype("f")


def test_trusted_ranges_lead_to_the_ue():
    _, center, _, (mean, deviation, _) = make(log_weight=9.0)(*exact(), *known())
    away = np.linalg.norm(np.asarray(center)[0] - UE[:2], axis=-1)
    error = np.hypot(mean[0][0] - UE[0], mean[1][0] - UE[1])
    nearest = np.argmin(away)
    assert away[nearest] > 0.5 and error[nearest] < 0.05
    assert deviation[0][0, nearest] < 0.3
    far = away > 12  # they do not leave their own surroundings
    assert far.any() and error[far].min() > 5


def over_walls(trp=TRP[:1]):
    """Evidence of TRPs heard directly and over walls at x = 30 and y = -20; images."""
    mirrors = np.array([[-1, 1, 1], [1, -1, 1]]), np.array([[60, 0, 0], [0, -40, 0]])
    images = trp[:, None] * mirrors[0] + mirrors[1]
    sources = np.concatenate([trp[:, None], images], axis=1)
    paths = np.linalg.norm(sources - UE, axis=-1) * TAPS_PER_METRE  # [trps, 3]
    until = paths[..., None] - np.arange(NUM_TAPS)
    nearest = np.abs(until).argmin(axis=1)
    evidence, *links = exact(trp)
    until = np.take_along_axis(until, nearest[:, None], axis=1)[:, 0]
    evidence[0, ..., 0] = until
    return (evidence, *links), images[None].astype("f")


def test_images_of_a_single_trp_lead_to_the_ue():
    heard, images = over_walls()
    errors = []
    for layer, further in ((make(9.0), None), (make(9.0, num_images=2), images)):
        _, center, _, (mean, deviation, _) = layer(*heard, *known(), images=further)
        nearest = np.argmin(np.linalg.norm(np.asarray(center)[0] - UE[:2], axis=-1))
        place = np.array([mean[0][0, nearest], mean[1][0, nearest]])
        across = float(deviation[1][0, nearest])  # to the way to the TRP
        errors.append((np.linalg.norm(place - UE[:2]), across))
    assert errors[0][0] > 0.3 and errors[1][0] < 0.05
    assert errors[1][1] < 0.1 < errors[0][1] / 2


def test_images_that_are_not_there_say_nothing():
    plain, layer = make(), make(num_images=2)
    expected = plain(*exact(), *known())
    nowhere = np.full((1, 4, 2, 3), 1e5, "f")
    found = layer(*exact(), *known(), images=nowhere)
    for a, b in zip(found[3][:2], expected[3][:2], strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    # Nor do those of TRPs that are not heard, wherever they are.
    evidence, trp, mask = exact()
    mask[0, 1] = False
    images = over_walls(TRP)[1]
    before = layer(evidence, trp, mask, *known(), images=images)
    images[0, 1] += 7.0
    after = layer(evidence, trp, mask, *known(), images=images)
    pairs = zip(keras.tree.flatten(before), keras.tree.flatten(after), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-5)
    images[0, 0] += 7.0
    assert (
        np.abs(layer(evidence, trp, mask, *known(), images=images)[0] - before[0]).max()
        > 1e-3
    )


def test_what_is_known_of_a_cell_says_how_far_to_trust_a_wall():
    layer = make(num_images=2)
    for weight in (layer._range.kernel, layer._sight.kernel):
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    heard, images = over_walls(TRP)
    cells, values, level = known()
    before = layer(*heard, cells, values, level, images=images)[3]
    values = values.copy()
    values[:, 0] += 2.0  # of the first of two cells
    after = layer(*heard, cells, values, level, images=images)[3]
    change = np.abs(np.asarray(after[1][0]) - before[1][0])[0]
    assert change[:16].max() > 0.01 and change[16:].max() < 1e-6


def test_evidence_of_every_other_tap_serves_as_well():
    every, other = make(log_weight=9.0), make(log_weight=9.0, stride=2)
    evidence, *links = exact()
    evidence[..., 1:] = np.arange(NUM_TAPS)[:, None] / NUM_TAPS  # linear, too
    expected = every(evidence, *links, *known())
    found = other(evidence[:, :, ::2], *links, *known())
    pairs = zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_gaussians_are_those_of_the_linear_model():
    """Against the normal equations, link by link, for one part."""
    layer = make()
    _, center, _, (mean, deviation, correlation) = layer(*exact(), *known())
    part = 21
    place = np.append(np.asarray(center)[0, part], HEIGHT)
    way = place - TRP
    distance = np.linalg.norm(way, axis=-1)
    direction = way[:, :2] / distance[:, None]
    longer = np.linalg.norm(TRP - UE, axis=-1) - distance
    longer = 30 * np.tanh(longer / 30)
    weight = np.exp(1.2 + 6.5 * np.tanh(-3.5 / 6.5))
    assert 2 < weight**-0.5 < 4  # metres
    fisher = 4 / 2.5**2 * np.eye(2) + weight * direction.T @ direction
    step = np.linalg.solve(fisher, weight * direction.T @ longer)
    step /= np.sqrt(1 + step @ step / (1.5 * 2.5) ** 2)
    found = [mean[0][0, part] - place[0], mean[1][0, part] - place[1]]
    np.testing.assert_allclose(found, step, atol=2e-3)
    covariance = np.linalg.inv(fisher)
    np.testing.assert_allclose(
        [deviation[0][0, part] ** 2, deviation[1][0, part] ** 2],
        np.diag(covariance),
        rtol=1e-3,
    )
    shared = correlation[0, part] * deviation[0][0, part] * deviation[1][0, part]
    assert float(shared) == pytest.approx(covariance[0, 1], rel=1e-2)
    np.testing.assert_array_equal(mean[2], np.full((1, 32), HEIGHT, "f"))
    np.testing.assert_array_equal(deviation[2], np.full((1, 32), 0.5, "f"))


def test_with_the_height_gaussians_are_those_of_three_coordinates():
    """Against the normal equations of all three, and a prior of the height."""
    layer = make(finds_height=True)
    _, center, _, (mean, deviation, correlation) = layer(*exact(), *known(2.5, 1.7))
    for part in (10, 21):
        place = np.append(np.asarray(center)[0, part], HEIGHT)
        way = place - TRP
        distance = np.linalg.norm(way, axis=-1)
        direction = way / distance[:, None]
        longer = 30 * np.tanh((np.linalg.norm(TRP - UE, axis=-1) - distance) / 30)
        weight = np.exp(1.2 + 6.5 * np.tanh(-3.5 / 6.5))
        prior = np.diag([4 / 2.5**2, 4 / 2.5**2, 1.7**-2])
        fisher = prior + weight * direction.T @ direction
        pull = weight * direction.T @ longer + [0, 0, (2.5 - HEIGHT) / 1.7**2]
        *plan, up = np.linalg.solve(fisher, pull)
        plan /= np.sqrt(1 + np.square(plan).sum() / (1.5 * 2.5) ** 2)
        found = [float(axis[0, part]) for axis in mean]
        np.testing.assert_allclose(found - place, [*plan, up], atol=3e-3)
        covariance = np.linalg.inv(fisher)
        found = [float(axis[0, part]) ** 2 for axis in deviation]
        np.testing.assert_allclose(found, np.diag(covariance), rtol=2e-3)
        shared = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        assert float(correlation[0, part]) == pytest.approx(shared, rel=1e-2)


def test_parts_beside_the_ue_know_its_height_as_well():
    """Though none of them says that the UE is where it is."""
    layer = make(log_weight=9.0, finds_height=True)
    _, center, _, (mean, _, _) = layer(*exact(), *known(deviation=4.0))
    away = np.linalg.norm(np.asarray(center)[0] - UE[:2], axis=-1)
    for nearest, farthest in ((0, 4), (4, 7)):
        error = np.abs(np.asarray(mean[2])[0] - HEIGHT)
        error = error[(away > nearest) & (away < farthest)]
        assert len(error) > 3 and error.max() < 1.0


def test_ranges_find_the_ue_at_another_height():
    """The plan too, which is wrong where the height is taken for granted."""
    high = UE + np.array([0, 0, 3], "f")
    errors = {}
    for finds_height in (False, True):
        layer = make(log_weight=9.0, finds_height=finds_height)
        _, center, _, (mean, _, _) = layer(*exact(ue=high), *known(deviation=4.0))
        nearest = np.argmin(np.linalg.norm(np.asarray(center)[0] - UE[:2], axis=-1))
        place = np.array([float(axis[0, nearest]) for axis in mean])
        errors[finds_height] = np.abs(place - high)
    assert errors[True].max() < 0.3
    assert errors[False][2] == pytest.approx(3)
    assert errors[True][:2].max() < 0.5 * errors[False][:2].max()


def test_parts_lie_in_their_cells_one_cell_after_the_other():
    logit, center, handed, _ = make()(*exact(), *known())
    assert logit.shape == (1, 32) and handed.shape == (1, 32, 3)
    for cell in range(2):
        away = np.asarray(center)[0, 16 * cell : 16 * (cell + 1)] - CENTERS[0, cell]
        assert np.abs(away).max() == pytest.approx(3.75)
        np.testing.assert_allclose(away.mean(axis=0), 0, atol=1e-5)


def test_a_set_of_trps():
    layer, (evidence, trp, mask) = make(), exact()
    expected = layer(evidence, trp, mask, *known())
    order = [3, 1, 0, 2]
    extra = np.full((1, 1, NUM_TAPS, 3), 2.0, "f"), np.full((1, 1, 3), 9.0, "f")
    found = layer(
        np.concatenate([evidence[:, order], extra[0]], axis=1),
        np.concatenate([trp[:, order], extra[1]], axis=1),
        np.concatenate([mask, [[False]]], axis=1),
        *known(),
    )
    pairs = zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-4)
    fewer = layer(evidence[:, :3], trp[:, :3], mask[:, :3], *known())
    assert np.abs(np.asarray(fewer[0]) - np.asarray(expected[0])).max() > 1e-3


@pytest.mark.parametrize("ue", [(6.9, 3.3), (12.0, 8.5), (1.4, 1.1)])
def test_with_an_array_parts_are_judged_by_the_direction_of_the_trps(ue):
    """Evidence that is the same everywhere, power that arrives from the UE's TRPs."""
    array = PlanarArray(2, 4)
    keras.utils.set_random_seed(0)
    layer = CellRefiner(
        SIDE, 4, HEIGHT, TAPS_PER_METRE, 1, units=1, channels=3, array=array.to_dict()
    )
    taps = (None, None, NUM_TAPS, 2 + 21)
    layer.build(taps, (None, None, 3), (None, None), (None, 2, 2), (None, 2, 5))
    layer._link.kernel.assign([[0.0], [0.0], [1.0]])  # one channel, the two shares
    seen = {}
    layer._judge = lambda pooled, features: seen.setdefault("pooled", pooled)
    layer._divide = layer._divide_dense
    trp = np.array([[3.0, 12.0, 6.0], [21.0, -4.0, 5.0]], "f")
    way = trp - np.array([*ue, HEIGHT])
    cosine = way / np.linalg.norm(way, axis=-1, keepdims=True)
    angles = np.stack(
        [np.arccos(cosine[:, 2]), np.arctan2(cosine[:, 1], cosine[:, 0])], axis=-1
    )
    phase = array_phase(angles[:, None].astype("f"), array.element_position)
    path = np.exp(1j * np.asarray(phase))  # [2, num_ant, 1]
    path = np.broadcast_to(path, (2, 8, NUM_TAPS))
    cir = np.stack([path.real, path.imag], axis=-1).astype("f")
    (spectrum,) = AngleSpectrum(2, 4, (5,))(cir)
    evidence = np.concatenate([np.zeros((2, NUM_TAPS, 2)), spectrum], -1)[None]
    mask = np.ones((1, 2), bool)
    _, center, _, _ = layer(evidence.astype("f"), trp[None], mask, *known())
    away = np.linalg.norm(np.asarray(center)[0] - ue, axis=-1)
    total = np.asarray(seen["pooled"])[0, :, 0]
    assert np.argmax(total) == np.argmin(away)
    assert total.max() > 1.5 * np.median(total)


def test_config_and_bad_arguments():
    layer = make()
    config = layer.get_config()
    assert CellRefiner.from_config(config).get_config() == config
    for bad in ({"spacing": 0.0}, {"num_divisions": 0}, {"units": -1}):
        with pytest.raises(UserError, match=f"{next(iter(bad))}="):
            CellRefiner(**{**config, **bad})
