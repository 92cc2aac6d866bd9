"""Images of the TRPs in the walls of a place."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from sionna_loc.checks import check, check_positive, check_positive_int
from sionna_loc.layers.cir_scaling import NUM_ADAPT_BATCHES, CirScaling
from sionna_loc.layers.token_set import TokenSet
from sionna_loc.layers.wall_search import Links, explained_shares, find_images

_NOWHERE = 1e5  # [m] from the TRP: beyond every CIR
_BETTER = 1.1  # times what known walls explain, that others must
_NUM_BATCHES_TO_GO_ON = 64  # of samples that a trained model goes on with
_SMALLEST = 1e-20


@keras.saving.register_keras_serializable(package="sionna_loc")
class WallImages(keras.layers.Layer):
    """TRP positions -> positions of their images in walls.

    What arrives over a reflection comes, by its delay and by its direction, from the
    image of the TRP behind the wall. With the images known, a reflection is as good as
    a line of sight to another TRP.

    Which walls there are is learnt by `adapt` from the CIRs of UEs at known positions
    (`find_images`) and kept as a weight; nothing else needs to be known of the place.
    An image may be one of several reflections, one after the other. Before `adapt`,
    and where fewer images are found than asked for, they lie so far from the TRP, 100
    km in each direction, that no CIR reaches them.

    Args:
        num_images: int > 0. Images of each TRP.
        taps_per_metre: float > 0. Sampling rate divided by the speed of light.

    Call arguments:
        trp_position: [..., 3], float [m].

    Returns: [..., num_images, 3], float [m].
    Raises: UserError (a ValueError) if an argument is not positive.
    References: Allen and Berkley, "Image method for efficiently simulating small-room
        acoustics".
    """

    def __init__(self, num_images: int, taps_per_metre: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_positive_int("num_images", num_images)
        check_positive("taps_per_metre", taps_per_metre)
        self.num_images = num_images
        self.taps_per_metre = taps_per_metre
        self.isometry = self.add_weight(
            shape=(num_images, 2, 3),
            initializer="zeros",
            trainable=False,
            name="isometry",
        )
        self.built = True

    def adapt(
        self, power: np.ndarray, trp_position: np.ndarray, ue_position: np.ndarray
    ) -> None:
        """Find the images in what UEs at known positions hear.

        Args:
            power: [num_links, num_taps], float. Of the CIRs.
            trp_position: [num_links, 3], float [m].
            ue_position: [num_links, 3], float [m].
        """
        self._assign(self._find(*_heard(power, trp_position, ue_position)))

    def adapt_if_better(
        self, power: np.ndarray, trp_position: np.ndarray, ue_position: np.ndarray
    ) -> None:
        """Find images, and forget those of before if they explain these links worse.

        Args: see `adapt`.
        """
        level_db, links = _heard(power, trp_position, ue_position)
        found = self._find(level_db, links)
        if not len(found):
            return
        explained = functools.partial(
            explained_shares, level_db, links, 1 / self.taps_per_metre
        )
        known = self._known()
        before = explained(known)[-1] if len(known) else 0.0
        if explained(found)[-1] > _BETTER * before:
            self._assign(found)

    def forget(self) -> None:
        """Forget all images."""
        self.isometry.assign(ops.zeros_like(self.isometry))

    def call(self, trp_position: keras.KerasTensor) -> keras.KerasTensor:
        """Mirror."""
        linear, shift = self.isometry[:, :, :2], self.isometry[:, :, 2]
        ground = trp_position[..., None, None, :2]
        # [..., num_images, 2]; an image that there is not has no linear part.
        moved = ops.sum(linear * ground, axis=-1) + shift
        there = ops.any(linear != 0, axis=(1, 2))[:, None]
        moved = ops.where(there, moved, trp_position[..., None, :2] + _NOWHERE)
        height = ops.broadcast_to(
            trp_position[..., None, 2:], (*ops.shape(moved)[:-1], 1)
        )
        return ops.concatenate([moved, height], axis=-1)

    def compute_output_shape(
        self, trp_position_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """Return [..., num_images, 3]."""
        return (*trp_position_shape[:-1], self.num_images, 3)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_images": self.num_images,
            "taps_per_metre": self.taps_per_metre,
        }

    def _find(self, level_db: np.ndarray, links: Links) -> np.ndarray:
        """Return the images that there are, [num_found, 2, 3]."""
        return find_images(level_db, links, 1 / self.taps_per_metre, self.num_images)

    def _assign(self, found: np.ndarray) -> None:
        """Keep images, [num_found, 2, 3]."""
        isometry = np.zeros(self.isometry.shape, "float32")
        isometry[: len(found)] = found
        self.isometry.assign(isometry)

    def _known(self) -> np.ndarray:
        """Return the images that there are, [num_known, 2, 3]."""
        isometry = ops.convert_to_numpy(self.isometry)
        return isometry[(isometry[:, :, :2] != 0).any(axis=(1, 2))]


def learn_walls(
    images: WallImages | None,
    scaling: CirScaling,
    dataset: Iterable[tuple[dict[str, Any], Any]],
) -> None:
    """Find walls and the level of the CIRs in the first batches of a model's data.

    Args:
        images: learns the walls; None for the level alone.
        scaling: learns the level.
        dataset: batches of (inputs, targets).

    Raises: see `received_links`.
    """
    if images is None:
        scaling.adapt_to_inputs(dataset)
        return
    power, trp_position, ue_position = received_links(dataset)
    images.adapt(power, trp_position, ue_position)
    scaling.adapt_to_peaks(power.max(axis=1))


def learn_other_walls(
    images: WallImages | None, dataset: Iterable[tuple[dict[str, Any], Any]]
) -> None:
    """Find walls in the samples that a trained model goes on with.

    Where walls of before explain these about as well, they stay as they are.

    Args:
        images: learns the walls, if not None.
        dataset: batches of (inputs, targets), the first of which are read.

    Raises: see `received_links`.
    """
    if images is not None:
        images.adapt_if_better(*received_links(dataset, _NUM_BATCHES_TO_GO_ON))


def _heard(
    power: np.ndarray, trp_position: np.ndarray, ue_position: np.ndarray
) -> tuple[np.ndarray, Links]:
    """Return levels [dB] and links, as `find_images` takes them."""
    level_db = 10 * np.log10(np.asarray(power, "float32") + _SMALLEST)
    return level_db, Links(np.array(trp_position, float), np.array(ue_position, float))


def received_links(
    dataset: Iterable[tuple[dict[str, Any], Any]],
    num_batches: int | None = NUM_ADAPT_BATCHES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `WallImages.adapt` takes, of the first batches of a model's data.

    Args:
        dataset: batches of (inputs, targets), each of which is read and let go.
        num_batches: int > 0, or None for all.

    Raises: UserError (a ValueError) if there is no batch, or one without positions.
    """
    batches = itertools.islice(dataset, num_batches)
    links = [_links_of(inputs, targets) for inputs, targets in batches]
    check(links, "There must be a batch to learn from at least.", num_batches=0)
    return tuple(np.concatenate(parts) for parts in zip(*links, strict=True))


def _links_of(
    inputs: dict[str, Any], targets: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return power [num_links, num_taps], TRP and UE positions [m] of a batch."""
    check(
        isinstance(targets, dict) and "position" in targets,
        "Targets must be a dict with the UEs' 'position'.",
        targets=type(targets).__name__,
    )
    tokens = TokenSet.from_inputs(inputs)
    sample, exists = tokens.samples()
    power = ops.max(ops.sum(ops.square(tokens.cir), axis=-1), axis=1)
    ue_position = ops.convert_to_numpy(targets["position"])[sample]
    trp_position = ops.convert_to_numpy(tokens.trp_position)
    links = ops.convert_to_numpy(power), trp_position, ue_position
    return tuple(values[exists] for values in links)
