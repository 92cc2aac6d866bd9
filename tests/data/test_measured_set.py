import measured_files
import numpy as np
import pytest

from sionna_loc.checks import UserError
from sionna_loc.data.array_files import write_fields
from sionna_loc.data.measured_form import CIRS, LINKS
from sionna_loc.data.measured_set import MeasuredSet


def put(path, **changes):
    fields = measured_files.make_fields()
    fields |= changes
    write_fields(path, {k: v for k, v in fields.items() if v is not None})
    return path


def test_samples_of_one_place_are_of_one_split(tmp_path):
    found = MeasuredSet([put(tmp_path / "a.npz")])
    sizes = {name: len(numbers) for name, numbers in found.splits.items()}
    assert sum(sizes.values()) == 60
    assert 3 <= sizes["validation"] <= 9 and 3 <= sizes["test"] <= 9
    places = [
        set(map(tuple, found.ue_position[numbers].tolist()))
        for numbers in found.splits.values()
    ]
    assert sum(map(len, places)) == 20  # no place in two of them
    again = MeasuredSet([tmp_path / "a.npz"])
    for name, numbers in found.splits.items():
        np.testing.assert_array_equal(again.splits[name], numbers)


def test_groups_stay_together_whatever_their_places(tmp_path):
    group = np.arange(60) % 10
    found = MeasuredSet([put(tmp_path / "a.h5", group=group)], test_share=0.3)
    groups = [set(group[numbers].tolist()) for numbers in found.splits.values()]
    assert sum(map(len, groups)) == 10
    assert len(groups[2]) == 3


def test_a_place_of_two_files_is_of_one_split(tmp_path):
    days = [
        measured_files.write(tmp_path / f"{day}.npz", num_places=40, per_place=day)
        for day in (2, 3)  # of the same seed: the same places
    ]
    found = MeasuredSet(days, test_share=0.3)
    places = [
        set(map(tuple, found.ue_position[numbers].tolist()))
        for numbers in found.splits.values()
    ]
    assert sum(map(len, places)) == 40
    # Groups are of their file: a number twice means two of them.
    grouped = [
        put(tmp_path / f"g{day}.npz", group=np.arange(60) // 6) for day in range(2)
    ]
    found = MeasuredSet(grouped, test_share=0.3)
    assert len(found.splits["test"]) == 36
    whole = {
        (n // 60, group)
        for n, group in zip(
            found.splits["test"],
            np.tile(np.arange(60) // 6, 2)[found.splits["test"]],
            strict=True,
        )
    }
    assert len(whole) == 6  # six groups of six samples


def test_the_test_set_does_not_depend_on_the_validation_share(tmp_path):
    path = put(tmp_path / "a.npz")
    first, second = (
        MeasuredSet([path], validation_share=share, test_share=0.2).splits
        for share in (0.05, 0.4)
    )
    np.testing.assert_array_equal(first["test"], second["test"])
    assert len(first["validation"]) < len(second["validation"])


def test_the_files_split_counts(tmp_path):
    split = np.repeat([2, 0, 1], 20)
    found = MeasuredSet([put(tmp_path / "a.npz", split=split)])
    for number, name in enumerate(("train", "validation", "test")):
        np.testing.assert_array_equal(
            found.splits[name], np.flatnonzero(split == number)
        )


def test_test_files_are_for_testing_alone(tmp_path):
    first = put(tmp_path / "a.npz")
    second = measured_files.write(tmp_path / "b.npz", num_places=5, seed=1)
    found = MeasuredSet([first], test_files=[second])
    np.testing.assert_array_equal(found.splits["test"], np.arange(60, 75))
    assert len(found.splits["train"]) + len(found.splits["validation"]) == 60


@pytest.mark.parametrize("kind", [CIRS, LINKS])
def test_samples_of_several_files_come_as_asked_for(tmp_path, kind):
    first = put(tmp_path / "a.npz")
    second = measured_files.write(tmp_path / "b.h5", num_places=5, seed=1)
    found = MeasuredSet([first, second])
    order = np.array([70, 3, 61, 59, 0])
    tokens, lengths = found.read(order, kind)
    assert lengths.tolist() == [4] * 5
    name = "cir" if kind == CIRS else "link"
    for place, number in enumerate(order):
        single, _ = found.read(np.array([number]), kind)
        rows = slice(4 * place, 4 * place + 4)
        np.testing.assert_array_equal(tokens[name][rows], single[name])


MISTAKES = {
    "no file": (lambda folder: MeasuredSet([]), "must be a file of measurements"),
    "text": (lambda folder: MeasuredSet("a.npz"), "`files` must be a list"),
    "no places": (
        lambda folder: MeasuredSet([put(folder / "a.npz", ue_position=None)]),
        "the field `ue_position` is required",
    ),
    "shares": (
        lambda folder: MeasuredSet([put(folder / "a.npz")], test_share=0.95),
        "must leave samples to train on",
    ),
    "two kinds": (
        lambda folder: MeasuredSet(
            [
                put(folder / "a.npz"),
                measured_files.write(folder / "b.npz", with_cir=False),
            ]
        ),
        "must hold CIRs, link measurements, or both",
    ),
    "two rates": (
        lambda folder: MeasuredSet(
            [put(folder / "a.npz"), put(folder / "b.npz", sampling_rate=np.array(1e6))]
        ),
        "`sampling_rate` must be .*a.npz's, 1e.08 Hz",
    ),
    "powers in one of two": (
        lambda folder: MeasuredSet(
            [put(folder / "a.npz"), put(folder / "b.npz", power=None)]
        ),
        "`power` must be there, as among .*a.npz's links",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_wrong_with_files_is_said(tmp_path, name):
    make, message = MISTAKES[name]
    with pytest.raises(UserError, match=message):
        make(tmp_path)


def test_values_are_checked_before_anything_is_trained(tmp_path):
    fields = measured_files.make_fields(with_cir=False)
    fields["power"][41, 2] = np.nan
    write_fields(tmp_path / "a.npz", fields)
    found = MeasuredSet([tmp_path / "a.npz"])
    with pytest.raises(UserError, match=r"`power` must be .* sample=41, trp=2"):
        found.check_values(LINKS)
    with pytest.raises(UserError, match="the model takes CIRs"):
        found.check_values(CIRS)


def test_the_fingerprint_depends_on_the_content(tmp_path):
    first = MeasuredSet([put(tmp_path / "a.npz")]).config()
    assert MeasuredSet([put(tmp_path / "a.npz")]).config() == first
    other = put(tmp_path / "a.npz", power=np.zeros((60, 4)))
    assert MeasuredSet([other]).config() != first
    folders = [tmp_path / "x", tmp_path / "y"]
    for folder, seed in zip(folders, (1, 2), strict=True):
        folder.mkdir()
        measured_files.write(folder / "a.npz", seed=seed)
    paths = [folder / "a.npz" for folder in folders]
    whole = MeasuredSet(paths).config()
    measured_files.write(paths[0], seed=3)  # of the same name as the other
    assert MeasuredSet(paths).config()["files"] != whole["files"]
