"""Frozen sets whose UEs a scenario names, e.g. those of tracks.

Their links are traced drop by drop, `num_frozen_ues` UEs each. What is traced is kept
in a folder of parts beside the cache file, so that an interrupted trace goes on where
it stopped; the folder goes when the whole set is there.
"""

import logging
import os
import shutil
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.channels.base import LINK_FIELDS
from sionna_loc.checks import check

_LOGGER = logging.getLogger(__name__)
_SOME_SEED, _PAIR_SEED = 0x50E5, 0x9A12
_SECONDS_PER_REPORT = 10.0


def trace(
    scenario: Any, trp_position: np.ndarray, ue_position: np.ndarray, folder: Path
) -> dict[str, np.ndarray]:
    """Return the links between all TRP sites and all UEs, traced as far as need be.

    Args:
        scenario: gives the channel and the number of UEs of a drop.
        trp_position: [num_sites, 3], float32 [m].
        ue_position: [num_ues, 3], float32 [m].
        folder: of the parts; its name tells apart what changes the links.

    Returns: fields of the sample contract, [num_ues, num_sites, ...], and
        `ue_position` [num_ues, 3].
    """
    num_drops = -(-len(ue_position) // scenario.sizes.num_frozen_ues)
    parts, reported = [], time.monotonic()
    for drop in range(num_drops):
        path = folder / f"{drop:05}.npz"
        if (part := _read(path)) is None:
            part = drop_rows(scenario, trp_position, ue_position, drop)
            _write(path, part)
        parts.append(part)
        if time.monotonic() - reported > _SECONDS_PER_REPORT:
            reported = time.monotonic()
            _LOGGER.warning("Traced %d of %d drops.", drop + 1, num_drops)
    links = {
        name: np.concatenate([part[name] for part in parts])[: len(ue_position)]
        for name in LINK_FIELDS
    }
    shape = (len(ue_position), *trp_position.shape)
    links["trp_position"] = np.broadcast_to(trp_position, shape)
    links["ue_position"] = ue_position
    shutil.rmtree(folder, ignore_errors=True)
    return links


def drop_rows(
    scenario: Any, trp_position: np.ndarray, ue_position: np.ndarray, drop: int
) -> dict[str, np.ndarray]:
    """Return the samples of one drop, the last one filled up with its last UE.

    Args:
        scenario: gives the channel and the number of UEs of a drop.
        trp_position: [num_sites, 3], float32 [m].
        ue_position: [num_ues, 3], float32 [m]. Of the whole set.
        drop: int >= 0. Its index.

    Returns: fields, [num_frozen_ues, num_sites, ...], and `ue_position`
        [num_frozen_ues, 3].
    Raises: UserError if there is no such drop.
    """
    size = scenario.sizes.num_frozen_ues
    check(
        drop * size < len(ue_position),
        f"The set has {len(ue_position)} UEs.",
        sample=drop * size,
    )
    index = np.arange(drop * size, (drop + 1) * size)
    ues = ue_position[np.minimum(index, len(ue_position) - 1)]
    seed = tf.constant([drop, _SOME_SEED], tf.int64)
    paths = scenario.channel(tf.constant(trp_position), tf.constant(ues), seed)
    rows = {name: values.numpy() for name, values in paths.items()}
    rows["trp_position"] = np.broadcast_to(trp_position, (size, *trp_position.shape))
    return {**rows, "ue_position": ues}


def some(links: dict[str, np.ndarray], num_ues: int) -> dict[str, np.ndarray]:
    """Return the links of random UEs, in their order; more UEs hold those of fewer."""
    ues = chosen(len(links["ue_position"]), num_ues)
    return {name: values[ues] for name, values in links.items()}


def chosen(total: int, num_ues: int) -> np.ndarray:
    """Return the indices of random UEs, rising; more UEs hold those of fewer."""
    shuffled = np.random.default_rng(_SOME_SEED).permutation(total)
    return np.sort(shuffled[:num_ues])


def pair(
    num_paths: np.ndarray,
    site_sets: np.ndarray,
    sets_per_ue: int,
    num_samples: int,
    min_trps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return samples: each UE with `sets_per_ue` of the sets, one after the other.

    Args:
        num_paths: [num_ues, num_sites], int. Of the links of each UE.
        site_sets: [num_sets, num_trps], int.
        sets_per_ue: int > 0. If not all, they begin with a random one for each UE.
        num_samples: int > 0. At most; counted before samples are left out.
        min_trps: int > 0. Samples that hear fewer TRPs are left out.

    Returns: the index of each sample's UE [num_samples], and its sites
        [num_samples, num_trps].
    """
    num_ues, num_sets = len(num_paths), len(site_sets)
    first = np.zeros(num_ues, np.int64)
    if sets_per_ue < num_sets:
        first = np.random.default_rng(_PAIR_SEED).integers(num_sets, size=num_ues)
    chosen = (first[:, None] + np.arange(sets_per_ue)) % num_sets
    ue = np.repeat(np.arange(num_ues), sets_per_ue)[:num_samples]
    site = site_sets[chosen.ravel()[:num_samples]]  # [num_samples, num_trps]
    enough = (num_paths[ue[:, None], site] > 0).sum(axis=1) >= min_trps
    return ue[enough], site[enough]


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return a part, `None` if it is not there or damaged: then it is traced again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in LINK_FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, part: dict[str, np.ndarray]) -> None:
    """Write a part, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, **{name: part[name] for name in LINK_FIELDS})
    os.replace(temporary, path)
