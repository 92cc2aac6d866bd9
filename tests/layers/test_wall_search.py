import numpy as np
import pytest

from sionna_loc.layers.wall_search import Links, explained_shares, find_images

METRES_PER_TAP = 1.5
TURN = np.deg2rad(27.0)  # of a street along x
ROTATION = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
MIDDLE = np.array([1000.0, -400.0])
NORMAL = ROTATION @ [0.0, 1.0]
LEFT, RIGHT = 30.0, -24.0  # walls, metres left of the street's middle


def mirrored(ground, wall):
    """Of points [num_links, 2], x along the street and y to its left."""
    return ground * [1, -1] + [0, 2 * wall]


def street(
    num_links=400,
    walls=(LEFT, RIGHT),
    reach=22.0,
    seed=0,
    num_taps=160,
    links_per_ue=1,
):
    """CIRs [dB] of links in a street: direct, over each wall, and to and fro.

    Returns: levels, links, and the lengths [num_paths, num_links] of what is in them.
    """
    rng = np.random.default_rng(seed)
    trp = rng.uniform([-80, -reach], [80, reach], (12, 2))
    trp = trp[rng.integers(12, size=num_links)]
    ue = rng.uniform([-80, -reach], [80, reach], (num_links // links_per_ue, 2))
    ue = np.repeat(ue, links_per_ue, axis=0)
    images = [trp, *(mirrored(trp, wall) for wall in walls)]
    if len(walls) == 2:
        images += [mirrored(mirrored(trp, a), b) for a, b in (walls, walls[::-1])]
    length = np.array([np.hypot(np.linalg.norm(i - ue, axis=1), 8.5) for i in images])
    response = 0
    for strength, path in zip((1, 0.6, 0.6, 0.4, 0.4), length, strict=False):
        phasor = np.exp(2j * np.pi * rng.uniform(size=num_links))
        pulse = np.sinc(np.arange(num_taps) - path[:, None] / METRES_PER_TAP)
        response += strength * phasor[:, None] * pulse
    level_db = 10 * np.log10(np.square(np.abs(response)) + 1e-20)
    trp, ue = (
        np.concatenate([ground @ ROTATION.T + MIDDLE, np.full((num_links, 1), z)], 1)
        for ground, z in ((trp, 10.0), (ue, 1.5))
    )
    return level_db.astype("f"), Links(trp, ue), length


def wall_of(image):
    """Angle [degree] of the normal, and metres left of the street's middle."""
    linear, shift = image[:, :2], image[:, 2]
    np.testing.assert_allclose(np.linalg.det(linear), -1, atol=1e-6)
    foot = MIDDLE - (linear @ MIDDLE + shift)  # twice the way back from the wall
    angle = np.rad2deg(np.arctan2(linear[1, 0], linear[0, 0])) / 2  # modulo 180
    return (angle + 90 - 27 + 45) % 90 - 45, -foot @ NORMAL / 2


@pytest.fixture(scope="module")
def found():
    level_db, links, length = street()
    return find_images(level_db, links, METRES_PER_TAP, 6), links, length


def test_both_walls_are_found_first(found):
    images, _, _ = found
    turned, place = zip(*map(wall_of, images[:2]), strict=True)
    np.testing.assert_allclose(turned, 0, atol=0.2)
    np.testing.assert_allclose(sorted(place), [RIGHT, LEFT], atol=0.5)


def test_what_goes_to_and_fro_is_one_image_after_the_other(found):
    """Of two parallel walls: moved across the street by twice its width."""
    images, _, _ = found
    np.testing.assert_allclose(images[2:, :, :2], [np.eye(2)] * 2, atol=0.01)
    across = sorted((images[2:, :, 2] + (images[2:, :, :2] @ MIDDLE - MIDDLE)) @ NORMAL)
    width = 2 * (LEFT - RIGHT)
    np.testing.assert_allclose(across, [-width, width], atol=1.5)


def test_lengths_to_images_are_those_of_the_paths(found):
    images, links, length = found
    for image in images:
        off = np.abs(links.image_distance(image) - length[1:]).mean(axis=1)
        assert off.min() < 0.5 < METRES_PER_TAP * 2 < np.sort(off)[1]


def test_nothing_more_than_asked_for(found):
    level_db, links, _ = street()
    (image,) = find_images(level_db, links, METRES_PER_TAP, 1)
    np.testing.assert_array_equal(image, found[0][0])
    assert find_images(level_db, links, METRES_PER_TAP, 0).shape == (0, 2, 3)


def test_order_and_number_of_links_leave_a_wall_where_it_is():
    level_db, links, _ = street(1500, walls=(LEFT,))
    back = Links(*(points[::-1] for points in links))
    for some in (
        find_images(level_db, links, METRES_PER_TAP, 2),
        find_images(level_db[::-1], back, METRES_PER_TAP, 2),
        find_images(level_db[:100], Links(*(x[:100] for x in links)), 1.5, 2),
    ):
        assert len(some) == 1
        turned, place = wall_of(some[0])
        assert abs(turned) < 0.2 and abs(place - LEFT) < 0.5


def test_walls_of_ues_that_hear_little_count_more():
    """Of 60 UEs with 20 links each and of 60 with a link each: the second first."""
    level_db, links, _ = street(1200, walls=(LEFT,), links_per_ue=20)
    few_db, few, _ = street(60, walls=(RIGHT,), seed=1)
    both = Links(*(np.concatenate(points) for points in zip(links, few, strict=True)))
    all_db = np.concatenate([level_db, few_db])
    images = find_images(all_db, both, METRES_PER_TAP, 3)
    turned, place = zip(*map(wall_of, images), strict=True)
    np.testing.assert_allclose(turned, 0, atol=0.2)
    np.testing.assert_allclose(place, [RIGHT, LEFT], atol=0.5)


def test_images_explain_the_peaks_of_their_walls(found):
    images, _, _ = found
    level_db, links, _ = street(300, seed=2)  # other links than those of the search
    shares = explained_shares(level_db, links, METRES_PER_TAP, images)
    assert shares.shape == (len(images),)
    assert np.all(np.diff(shares) >= 0) and 0.25 < shares[0] < 0.6 and shares[-1] > 0.9
    away = np.add(images, [[0, 0, 37.0], [0, 0, 0]])
    assert explained_shares(level_db, links, METRES_PER_TAP, away)[-1] < 0.3
    level_db, links, _ = street(walls=())
    assert np.isnan(explained_shares(level_db, links, METRES_PER_TAP, images)).all()


def test_no_walls():
    """Direct paths alone, and peaks anywhere, in many links and in few."""
    level_db, links, _ = street(walls=())
    assert len(find_images(level_db, links, METRES_PER_TAP, 2)) == 0
    rng = np.random.default_rng(1)
    for link, tap in zip(range(400), rng.integers(30, 150, (400, 3)), strict=True):
        level_db[link, tap] = 0.0
    for count in (1, 20, 400):
        some = Links(*(points[:count] for points in links))
        assert len(find_images(level_db[:count], some, METRES_PER_TAP, 2)) == 0


@pytest.mark.parametrize(("ue_side", "num_found"), [(-1, 1), (1, 0)])
def test_a_wall_reflects_to_its_own_side_only(ue_side, num_found):
    """Peaks at the distance to the TRP's image; UEs in front of the wall or behind."""
    rng = np.random.default_rng(4)
    across = rng.uniform(5, 40, (2, 400))
    trp = np.stack([rng.uniform(-80, 80, 400), -across[0], np.full(400, 10.0)], 1)
    ue = trp[::-1] * [1, 0, 0.15] + across[1][:, None] * [0, ue_side, 0]
    length = np.linalg.norm(trp * [1, -1, 1] - ue, axis=1)
    away = np.arange(200) - length[:, None] / METRES_PER_TAP
    images = find_images(-20 * np.abs(away), Links(trp, ue), METRES_PER_TAP, 1)
    assert len(images) == num_found
    if num_found:
        np.testing.assert_allclose(images[0], [[1, 0, 0], [0, -1, 0]], atol=0.5)


def test_input_is_left_alone_and_degenerate_input_finds_nothing():
    level_db, links, _ = street(50)
    before = [x.copy() for x in (level_db, *links)]
    with np.errstate(all="raise"):
        for level, some in (
            (level_db, links),
            (level_db[:0], Links(*(x[:0] for x in links))),
            (level_db[:, :1], links),
            (level_db[:, :2], links),
            (np.full_like(level_db, -200.0), links),
            (level_db, Links(links.ue_position, links.ue_position)),
            (level_db, links._replace(ue_position=np.ones((50, 3)))),
            (level_db, Links(*(np.zeros((50, 3)) for _ in range(2)))),
        ):
            images = find_images(level, some, METRES_PER_TAP, 2)
            assert images.shape[1:] == (2, 3) and np.isfinite(images).all()
            assert level is level_db or len(images) == 0
    for old, new in zip(before, (level_db, *links), strict=True):
        np.testing.assert_array_equal(old, new)
