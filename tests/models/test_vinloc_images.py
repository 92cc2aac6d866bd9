import keras
import numpy as np
import pytest
from vinloc_samples import WALLS, make, padded, pulses, ragged


def street(num_samples=60):
    """UEs and some TRPs each between two walls, x = 0 and x = 30.

    Returns: batches of `adapt`, ragged and padded.
    """
    rng = np.random.default_rng(2)
    lengths = rng.integers(4, 9, num_samples)
    ue = rng.uniform([2, -14, 1.5], [28, 14, 1.5], (num_samples, 3)).astype("f")
    trp = rng.uniform([2, -14, 9], [28, 14, 9], (lengths.sum(), 3)).astype("f")
    cir = np.zeros((lengths.sum(), 1, 32, 2), "f")
    images = (trp, trp * [-1, 1, 1], trp * [-1, 1, 1] + [60, 0, 0])
    for k, image in enumerate(images):
        cir[:, 0, :, k % 2] += pulses(image, np.repeat(ue, lengths, axis=0))
    data, target = (cir, trp, lengths.tolist()), {"position": ue}
    return [(ragged(*data), target)], [(padded(*data), target)]


@pytest.mark.usefixtures("eager")
def test_adapt_finds_walls_and_saving_keeps_them(tmp_path):
    batches, padded_batches = street()
    model = make(refiner_images=2)
    model.adapt(iter(batches))
    found = np.asarray(model.images.isometry)
    images = np.asarray(model.images(np.array([12, 3, 9], "f")))
    images = images[images[:, 0].argsort()]
    np.testing.assert_allclose(images, [[-12, 3, 9], [48, 3, 9]], atol=0.6)
    assert -105 < float(model.scaling.reference_db) < -95

    twin = make(refiner_images=2)
    twin.adapt(iter(padded_batches))
    np.testing.assert_allclose(twin.images.isometry, found, atol=1e-3)

    inputs = batches[0][0]
    there = model(inputs)["position"].numpy()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.images.isometry, found)
    np.testing.assert_array_equal(loaded(inputs)["position"], there)
    loaded.images.isometry.assign(WALLS)  # which only the refinement sees
    assert np.abs(loaded(inputs)["position"] - there).max() > 1e-2
    loaded.forget()
    np.testing.assert_array_equal(loaded.images.isometry, 0 * found)
    make().forget()  # has no walls to forget


@pytest.mark.usefixtures("eager")
def test_images_are_mirrored_in_metres():
    model = make(refiner_images=2)
    trp = np.array([[[10, 20, 3]]], "f")
    images = model._images_of((trp - model._center) / model._scale)
    found = model._center + model._scale * np.asarray(images)
    np.testing.assert_allclose(found, [[[[80, 20, 3], [10, 90, 3]]]], atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"refiner_spacings": ()}, {"use_trp_positions": False}]
)
def test_without_steps_there_are_no_images(options):
    model = make(refiner_images=2, **options)
    assert model.images is None and model.get_config()["refiner_images"] == 2
