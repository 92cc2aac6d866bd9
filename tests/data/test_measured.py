import dataclasses
import os
import re
from pathlib import Path

import h5py
import measured_files
import numpy as np
import pytest

from sionna_loc import checks
from sionna_loc.antennas import PlanarArray
from sionna_loc.checks import UserError
from sionna_loc.constants import SPEED_OF_LIGHT
from sionna_loc.data.array_files import check_output_path, write_positions
from sionna_loc.data.measured import MeasuredFile, read_samples
from sionna_loc.data.measured_form import CIRS, LINKS, check_form
from sionna_loc.features.cir_form import CirForm

NUM_ANT, NUM_TAPS, RATE = 2, 5, 200e6
MODEL = {"kind": CIRS, "form": CirForm(NUM_TAPS, RATE, RATE, PlanarArray(1, NUM_ANT))}
HEARD = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=bool)


def make_fields():
    """Four samples of three TRPs; row 0 masks with NaN, row 1 with silence."""
    generator = np.random.default_rng(0)
    shape = (4, 3, NUM_ANT, NUM_TAPS)
    cir = generator.normal(size=shape) + 1j * generator.normal(size=shape)
    cir[0, 2] = np.nan
    cir[1, [0, 2]] = 0
    cir[3, :2] = 0
    return {
        "cir": cir.astype("complex64"),
        "trp_position": generator.uniform(0, 100, (4, 3, 3)),
        "trp_mask": np.array([[1, 1, 0]] + [[1, 1, 1]] * 3, dtype=bool),
        "sampling_rate": np.float64(RATE),
    }


def make_flat_fields():
    """The same samples with only the TRPs that are heard."""
    padded = make_fields()
    return {
        "cir": padded["cir"][HEARD],
        "trp_position": padded["trp_position"][HEARD],
        "num_trps": HEARD.sum(axis=1),
        "sampling_rate": padded["sampling_rate"],
    }


def write(path, fields):
    if path.suffix == ".npz":
        np.savez(path, **fields)
    else:
        with h5py.File(path, "w") as file:
            for name, value in fields.items():
                file[name] = value
    return path


def read_all(path, **options):
    return list(read_samples(path, **{**MODEL, **options}))


def error_of(path, **options):
    """Return the message, which must be one line."""
    with pytest.raises(UserError) as caught:
        read_all(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize("form", [make_fields, make_flat_fields])
@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_both_forms_give_the_heard_trps_in_order(tmp_path, suffix, form, batch_size):
    path = write(tmp_path / f"samples{suffix}", form())
    batches = read_all(path, batch_size=batch_size)
    assert [b["cir"].shape[0] for b in batches] == {
        1: [1, 1, 1, 1],
        3: [3, 1],
        256: [4],
    }[batch_size]
    truth = make_fields()
    rows = [row for batch in batches for row in batch["cir"]]
    places = [row for batch in batches for row in batch["trp_position"]]
    for i, (row, place) in enumerate(zip(rows, places, strict=True)):
        parts = truth["cir"][i, HEARD[i]]
        expected = np.stack([parts.real, parts.imag], axis=-1)
        np.testing.assert_array_equal(row, expected)
        positions = truth["trp_position"][i, HEARD[i]].astype("float32")
        np.testing.assert_array_equal(place, positions)
    assert batches[0]["cir"].dtype == batches[0]["trp_position"].dtype == "float32"


def drop(name):
    return lambda fields: fields.pop(name)


def put(name, value):
    return lambda fields: fields.update({name: value})


def spoil(name, index, value):
    return lambda fields: fields[name].__setitem__(index, value)


MISTAKES = {
    "missing field": (drop("trp_position"), "`trp_position`, and `cir` with "),
    "no rate": (drop("sampling_rate"), "`cir` needs the field `sampling_rate`"),
    "cir of text": (put("cir", np.zeros((4, 3, 2, 5), "S1")), "`cir` must be numbers"),
    "rank of cir": (
        put("cir", np.zeros((4, 3, 5), "complex64")),
        "[num_samples, num_trps, num_ant, num_taps]. Received: shape=(4, 3, 5)",
    ),
    "taps": (
        put("cir", np.ones((4, 3, 2, 6), "complex64")),
        "x 5 taps. Received: num_ant=2",
    ),
    "antennas": (put("cir", np.ones((4, 3, 1, 5), "complex64")), "2 antenna(s) x"),
    "2-D places": (put("trp_position", np.zeros((4, 3, 2))), "shape=(4, 3, 2)"),
    "TRPs disagree": (
        put("trp_position", np.zeros((4, 2, 3))),
        "`trp_position` and `cir` must agree on [num_samples, num_trps]",
    ),
    "mask shape": (put("trp_mask", np.ones((4, 2), bool)), "`trp_mask` and `cir`"),
    "mask type": (put("trp_mask", np.ones((4, 3))), "`trp_mask` must be bool"),
    "NaN": (spoil("cir", (2, 1, 0, 3), np.nan), "`cir` must be finite wherever it is "
            "not masked. Received: sample=2, trp=1"),
    "infinite place": (
        spoil("trp_position", (3, 2, 0), np.inf),
        "`trp_position` must be finite wherever it is not masked. "
        "Received: sample=3, trp=2",
    ),
    "UTM": (
        spoil("trp_position", (3, 2, 1), 5.8e6),
        "`trp_position` must be within 100 km of the origin",
    ),
    "silent sample": (spoil("cir", 2, 0), "unheard if it is masked in `trp_mask` or "
                      "its `cir` is zero throughout. Received: sample=2"),
    "masked sample": (spoil("trp_mask", 1, False), "hear at least one TRP"),
    "all masked": (put("trp_mask", np.zeros((4, 3), bool)), "hear at least one TRP"),
    "other rate": (put("sampling_rate", 100e6), "the model's, 2e+08 Hz"),
    "rate of text": (put("sampling_rate", np.bytes_(b"x")), "scalar [Hz]"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_the_padded_form(tmp_path, suffix, name):
    fields = make_fields()
    spoil_fields, expected = MISTAKES[name]
    spoil_fields(fields)
    path = write(tmp_path / f"wrong{suffix}", fields)
    message = error_of(path)
    assert expected in message
    assert str(path) in message


FLAT_MISTAKES = {
    "sum": (spoil("num_trps", 0, 3), "add up to the rows of `trp_position`"),
    "none": (spoil("num_trps", 1, 0), "at least one TRP in `num_trps`"),
    "type": (put("num_trps", np.ones(4)), "`num_trps` must be whole numbers"),
    "NaN": (spoil("cir", (3, 0, 0), np.nan), "sample=2, trp=0"),
    "empty": (put("num_trps", np.ones(0, int)), "add up"),
}


@pytest.mark.parametrize("name", FLAT_MISTAKES)
def test_mistakes_in_the_flat_form(tmp_path, name):
    fields = make_flat_fields()
    spoil_fields, expected = FLAT_MISTAKES[name]
    spoil_fields(fields)
    path = write(tmp_path / "wrong.h5", fields)
    assert expected in error_of(path)


@pytest.mark.parametrize("form", [make_fields, make_flat_fields])
def test_empty_set(tmp_path, form):
    fields = form()
    for name in set(fields) - {"sampling_rate"}:
        fields[name] = fields[name][:0]
    path = write(tmp_path / "empty.npz", fields)
    assert "holds no sample" in error_of(path)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_truncated_and_foreign_files(tmp_path, suffix):
    path = write(tmp_path / f"samples{suffix}", make_fields())
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a file of samples"):
        path.write_bytes(content)
        message = error_of(path)
        assert str(path) in message and "cannot be read" in message
    renamed = tmp_path / "array.npz"
    with renamed.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "cannot be read" in error_of(renamed)


def test_a_damaged_npz_member_is_one_line(tmp_path):
    path = write(tmp_path / "samples.npz", make_fields())
    content = bytearray(path.read_bytes())
    content[300:340] = b"\xff" * 40  # inside the values of `cir`
    path.write_bytes(content)
    assert "cannot be read" in error_of(path)


def test_missing_file_and_unknown_suffix(tmp_path):
    assert "input file must exist" in error_of(tmp_path / "absent.npz")
    (tmp_path / "samples.mat").write_bytes(b"")
    assert ".npz, .h5, .hdf5" in error_of(tmp_path / "samples.mat")
    (tmp_path / "folder.h5").mkdir()
    assert "input file must exist" in error_of(tmp_path / "folder.h5")
    with pytest.raises(UserError, match="batch_size"):
        read_samples(tmp_path / "samples.npz", **MODEL, batch_size=0)


def test_the_form_is_checked_before_the_first_batch_is_asked_for(tmp_path):
    fields = make_fields()
    del fields["cir"]
    path = write(tmp_path / "wrong.npz", fields)
    with pytest.raises(UserError, match="required"):
        read_samples(path, **MODEL)


@pytest.mark.parametrize("name", ["positions.npz", "positions.h5", "P.HDF5"])
def test_positions_are_written_in_order(tmp_path, name):
    path = tmp_path / name
    position = np.arange(12.0).reshape(4, 3)
    write_positions(path, np.zeros((1, 3)))
    write_positions(path, position)
    if path.suffix == ".npz":
        stored = np.load(path)["position"]
    else:
        with h5py.File(path) as file:
            stored = file["position"][:]
            assert file["position"].attrs["unit"] == "m"
    np.testing.assert_array_equal(stored, position.astype("float32"))
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["positions.npz", "positions.h5"])
def test_what_a_model_says_besides_is_written(tmp_path, name):
    path, covariance = tmp_path / name, np.arange(18.0).reshape(2, 3, 3)
    beside = {
        "covariance": covariance,
        "expected_error": np.array([1.0, 2.0]),
        "credible_radius": np.arange(6.0).reshape(2, 3),
        "map": np.arange(80.0).reshape(2, 5, 8),
    }
    write_positions(path, np.ones((2, 3)), **beside)
    with np.load(path) if path.suffix == ".npz" else h5py.File(path) as stored:
        for field, values in beside.items():
            np.testing.assert_array_equal(stored[field], values.astype("f"))
        np.testing.assert_array_equal(stored["position"], np.ones((2, 3)))
        if path.suffix == ".h5":
            assert stored["covariance"].attrs["unit"] == "m^2"
            assert stored["credible_radius"].attrs["unit"] == "m"
    other = tmp_path / "other.npz"
    with pytest.raises(UserError, match=r"\[4, 3, 3\].*shape=\(2, 3, 3\)"):
        write_positions(other, np.zeros((4, 3)), covariance=covariance)
    for field, shape in (("map", (4, 5, 7)), ("map", (4, 8)), ("expected_error", (3,))):
        with pytest.raises(UserError, match=f"`{field}` must have the shape"):
            write_positions(other, np.zeros((4, 3)), **{field: np.zeros(shape)})
    assert not other.exists()


def test_positions_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="must end in"):
        check_output_path(tmp_path / "positions.txt")
    with pytest.raises(UserError, match="folder of the output"):
        check_output_path(tmp_path / "absent" / "positions.npz")
    with pytest.raises(UserError, match="shape"):
        write_positions(tmp_path / "positions.npz", np.zeros((4, 2)))
    assert os.listdir(tmp_path) == []
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(UserError, match="must not be a folder"):
        check_output_path(tmp_path / "folder.npz")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"output cannot be written: Permission denied"):
        check_output_path(tmp_path / "positions.npz")


def test_the_documented_example_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "data_format.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(blocks[0], scope)
    exec(blocks[2], scope)
    for name in ("measured.npz", "measured.h5"):
        form = CirForm(256, 200e6, 100e6, PlanarArray())
        (batch,) = read_samples(name, CIRS, form)
        assert batch["cir"].row_lengths().numpy().tolist() == [3, 1]
        peak = np.argmax(np.hypot(*np.moveaxis(batch["cir"].flat_values, -1, 0)), -1)
        expected = np.round(scope["delay"][[0, 0, 0, 1], [0, 1, 2, 0]] * 200e6)
        np.testing.assert_array_equal(peak[:, 0], expected)


def test_bandwidth_and_spacing_are_compared_where_they_are_known(tmp_path):
    array = PlanarArray(1, NUM_ANT, spacing=0.7)
    known = CirForm(NUM_TAPS, RATE, RATE / 2, array)
    silent, says = make_fields(), make_fields() | {"bandwidth": np.float64(RATE)}
    list(read_samples(write(tmp_path / "silent.npz", silent), CIRS, known))
    message = r"`bandwidth` must be the model's, 1e\+08 Hz. Received: bandwidth=2"
    with pytest.raises(UserError, match=message):
        read_samples(write(tmp_path / "says.npz", says), CIRS, known)
    # So do models that were trained on files that did not say.
    form = MeasuredFile(tmp_path / "silent.npz").form.forms[CIRS]
    assert CirForm.from_config(form.get_config()) == form
    list(read_samples(tmp_path / "says.npz", CIRS, form))
    usual = dataclasses.replace(known, array=PlanarArray(1, NUM_ANT))
    with pytest.raises(UserError, match=r"0.7 wavelengths. Received: spacing=0.5"):
        check_form("The samples", usual, known)
    check_form("The samples", known, dataclasses.replace(known))


def make_links():
    """Three samples of two TRPs: all heard, one not heard, one not there."""
    return {
        "range": np.array([[10.0, 20.0], [30.0, np.nan], [40.0, np.nan]]),
        "power": np.array([[-60.0, -70.0], [-80.0, 0.0], [-90.0, np.nan]]),
        "aoa": np.array([[[np.pi / 2, 0.0]] * 2, [[np.pi / 2, np.pi / 2]] * 2] * 2)[:3],
        "trp_mask": np.array([[1, 1], [1, 0], [1, 0]], dtype=bool),
        "trp_position": np.array(
            [[[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [np.nan] * 3]]
        ),
        "ue_position": np.zeros((3, 3)),
    }


def test_links_are_power_delay_and_direction(tmp_path):
    path = write(tmp_path / "links.h5", make_links())
    (batch,) = read_samples(path, LINKS)
    assert batch["link"].row_lengths().numpy().tolist() == [2, 2, 1]
    heard = batch["trp_heard"].to_list()
    assert heard == [[True, True], [True, False], [True]]
    delay = np.array([10, 20, 30, 0, 40]) / SPEED_OF_LIGHT
    expected = [
        [-60, delay[0], 1, 0, 0],
        [-70, delay[1], 1, 0, 0],
        [-80, delay[2], 0, 1, 0],
        [0, 0, 0, 0, 0],
        [-90, delay[4], 1, 0, 0],
    ]
    links = batch["link"].flat_values.numpy()
    np.testing.assert_allclose(links, expected, rtol=1e-6, atol=1e-7)
    assert batch["trp_position"].to_list()[1][1] == [4.0, 5.0, 6.0]


def test_tof_counts_before_range_and_what_is_not_measured_is_zero(tmp_path):
    fields = make_links()
    fields["tof"] = np.where(fields["trp_mask"], 1e-7, np.nan)
    del fields["aoa"], fields["power"]
    (batch,) = read_samples(write(tmp_path / "links.npz", fields), LINKS)
    row = batch["link"].flat_values.numpy()[0]
    np.testing.assert_allclose(row, [0, 1e-7, 0, 0, 0], rtol=1e-6)


LINK_MISTAKES = {
    "NaN": (spoil("power", (1, 0), np.nan), "`power` must be finite wherever it is "
            "not masked. Received: sample=1, trp=0"),
    "deaf": (spoil("trp_mask", 2, False), "hear at least one TRP"),
    "angles": (put("aoa", np.zeros((3, 2, 3))), "`aoa` must have the shape"),
    "split": (put("split", np.array([0, 3, 1])), "`split` must be 0, 1 or 2"),
    "group": (put("group", np.zeros(2, int)), "`group` must have the shape"),
    "places": (spoil("ue_position", (1, 0), np.nan), "`ue_position` must be finite"),
    "UTM": (
        spoil("ue_position", (1, 1), -5.8e6),
        "`ue_position` must be within 100 km of the origin",
    ),
    "flat places": (put("ue_position", np.zeros((3, 2))), "[num_samples, 3]"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINK_MISTAKES)
def test_mistakes_in_files_of_links(tmp_path, name):
    fields = make_links()
    spoil_fields, expected = LINK_MISTAKES[name]
    spoil_fields(fields)
    path = write(tmp_path / "wrong.npz", fields)
    with pytest.raises(UserError) as caught:
        list(read_samples(path, LINKS))
    assert expected in str(caught.value) and str(path) in str(caught.value)


def test_a_file_says_what_it_does_not_hold(tmp_path):
    links = write(tmp_path / "links.npz", make_links())
    with pytest.raises(UserError, match=r"takes CIRs .*, the file holds link"):
        read_samples(links, CIRS)
    cirs = write(tmp_path / "cirs.npz", make_fields())
    with pytest.raises(UserError, match=r"takes link measurements .* holds CIRs"):
        read_samples(cirs, LINKS)


def test_magnitudes_are_cirs_without_phase(tmp_path):
    fields = make_fields()
    fields["cir"] = np.abs(np.nan_to_num(fields["cir"]))
    (batch,) = read_samples(write(tmp_path / "samples.npz", fields), **MODEL)
    values = batch["cir"].flat_values.numpy()
    np.testing.assert_array_equal(values[..., 0], fields["cir"][HEARD])
    assert not values[..., 1].any()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("synchronised", np.array(False), "`synchronised` must be the model's, True"),
        ("array_shape", np.array([2, 2]), "rows and columns of the 2 antenna(s)"),
        ("bandwidth", np.float64(0), "`bandwidth` must be above 0"),
    ],
)
def test_what_the_cirs_are_is_checked(tmp_path, name, value, message):
    path = write(tmp_path / "samples.npz", {**make_fields(), name: value})
    assert message in error_of(path)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("form", [make_fields, make_flat_fields])
def test_samples_are_read_in_any_order(tmp_path, suffix, form):
    file = MeasuredFile(write(tmp_path / f"samples{suffix}", form()))
    order = np.array([3, 0, 2, 0])
    tokens, lengths = file.read(order, CIRS)
    truth = make_fields()
    assert lengths.tolist() == HEARD[order].sum(axis=1).tolist()
    expected = np.concatenate([truth["cir"][i, HEARD[i]] for i in order])
    np.testing.assert_array_equal(tokens["cir"][..., 0], expected.real)


@pytest.mark.parametrize("group", [None, [3, 3, 3, 3, 3, 1, 1, 1, 3]])
def test_windows_of_tracks_cross_the_ends_of_batches(tmp_path, group):
    fields = measured_files.make_fields(num_places=9, per_place=1, with_cir=False)
    if group is not None:
        fields["group"] = np.array(group)
    np.savez(tmp_path / "tracks.npz", **fields)
    ranges = fields["range"]
    starts = [0] * 9 if group is None else [0] * 5 + [5] * 3 + [8]
    for batch_size in (2, 256):
        batches = list(
            read_samples(
                tmp_path / "tracks.npz", LINKS, batch_size=batch_size, window=4
            )
        )
        links = [window for batch in batches for window in batch["link"].to_list()]
        assert len(links) == 9
        for end, window in enumerate(links):
            expected = ranges[max(starts[end], end - 3) : end + 1]
            found = np.array(window)[..., 1] * SPEED_OF_LIGHT
            np.testing.assert_allclose(found, expected, rtol=1e-5)
