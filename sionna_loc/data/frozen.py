"""Frozen sets, above all for validation and test: drawn once, and cached.

Each has seeds of its own, and shares no sample with another or with the stream.

A set takes many drops with few UEs each, so that it covers many TRP places, and
keeps the links to all sites, so that it can be evaluated with any number of TRPs. Or
the scenario says itself which UEs a set has (see `position_sets`). A cache file carries
the fingerprint of the scenario and the seed that it was drawn from, in its name and
inside: another configuration never reads it. A scenario with a prepared set takes its
samples from there instead.
"""

import hashlib
import logging
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import (
    UserError,
    check,
    check_known,
    check_positive_int,
    make_writable,
)
from sionna_loc.data import position_sets
from sionna_loc.data.link_table import LinkTable
from sionna_loc.data.ragged import chosen_fields, to_ragged
from sionna_loc.data.streaming import check_num_trps
from sionna_loc.data.tracks import check_window, track_starts
from sionna_loc.places.tracer_thread import TRACER_THREAD
from sionna_loc.sample import FIELDS, SPLITS

_LOGGER = logging.getLogger(__name__)
_CACHE_VARIABLE = "SIONNA_LOC_CACHE"
_SPLIT_SALTS = {"train": 0x7EA1E5, "validation": 0xA11DA7, "test": 0x2C0FFE}
"""Seeds of the splits; the stream has others (see `streaming`)."""
_SUBSET_SEED = 0x5B5E7
_MAX_REDRAWS = 100
_DRAWING = 2
"""Which way of drawing a cache file comes from; to be raised when `draw_rows` gives
other samples than before."""


def batches(
    scenario: Any,
    split: str,
    num_samples: int,
    *,
    num_trps: int | None = None,
    batch_size: int = 64,
    fields: tuple[str, ...] | None = None,
    keep_silent: bool = False,
    window: int = 1,
) -> tf.data.Dataset:
    """Return a frozen set in ragged batches; see `Scenario.frozen`."""
    check_positive_int("batch_size", batch_size)
    check_positive_int("num_samples", num_samples)
    check_window(scenario, window)
    num_trps = check_num_trps(scenario, num_trps)
    fields = chosen_fields(fields)
    min_trps = min(scenario.min_trps, num_trps)
    if (site_sets := scenario.site_sets(num_trps)) is None:
        check(window == 1, "Windows need sets of sites.", window=window)
        rows = _choose_sites(load(scenario, split, num_samples), num_trps, min_trps)
        carried = {name: rows[name] for name in (*fields, "num_paths")}
        dataset = tf.data.Dataset.from_tensor_slices(carried).batch(batch_size)
        ragged = dataset.map(lambda batch: to_ragged(batch, fields, keep_silent))
        return ragged.prefetch(1)
    per_ue = scenario.subsets_per_ue
    num_ues = -(-num_samples // per_ue)
    links, ues, starts = load_chosen(scenario, split, num_ues, window)
    num_paths = links["num_paths"][ues]
    ue, site = position_sets.pair(num_paths, site_sets, per_ue, num_samples, min_trps)
    table = LinkTable(links, fields, keep_silent, starts, window)
    dataset = tf.data.Dataset.from_tensor_slices((ues[ue], site)).batch(batch_size)
    return dataset.map(table).prefetch(1)


def load_chosen(
    scenario: Any, split: str, num_ues: int, window: int
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    """Return the links of UEs that are samples, and of those in their windows.

    Args:
        scenario: whose they are.
        split: `"train"`, `"validation"` or `"test"`.
        num_ues: int > 0. UEs that are samples.
        window: int > 0. Most samples of a window.

    Returns: the links, see `load`; the indices of the UEs that are samples [num_ues];
        and, with windows, what `track_starts` gives.
    Raises: UserError as `load`; with windows also if a prepared set has only some of
        the UEs of the tracks.
    """
    if window == 1:
        return load(scenario, split, num_ues), np.arange(num_ues), None
    starts = track_starts(scenario, split, window)
    if scenario.prepared is not None:
        stored = scenario.prepared.num_samples(split)
        check(
            stored == len(starts),
            f"Windows need a prepared set with all {len(starts)} {split} samples of "
            "the tracks.",
            num_samples=stored,
        )
    ues = position_sets.chosen(len(starts), num_ues)
    message = f"The {split} set of {scenario.name} has {len(starts)} UEs."
    check(len(ues) == num_ues, message, num_samples=num_ues)
    return load(scenario, split, len(starts)), ues, starts


def load(scenario: Any, split: str, num_samples: int) -> dict[str, np.ndarray]:
    """Return the links of a set's UEs to all sites, drawn now if not yet cached.

    Returns: fields of the sample contract, [num_samples, num_sites, ...], and
        `ue_position` [num_samples, 3].
    Raises: UserError if the arguments are wrong, the cache file is damaged, or, before
        anything is drawn, if the cache cannot be written; if the scenario has a
        prepared set, when that has fewer samples.
    """
    check_known("split", split, SPLITS)
    check_positive_int("num_samples", num_samples)
    if scenario.prepared is not None:
        return scenario.prepared.links(split, num_samples)
    positions = scenario.split_positions(split)
    size = num_samples if positions is None else len(positions[1])
    check(
        num_samples <= size,
        f"The {split} set of {scenario.name} has {size} UEs.",
        num_samples=num_samples,
    )
    path = cache_path(scenario, split, size)
    fingerprint = _fingerprint(scenario, split)
    if (links := _read(path, fingerprint)) is None:
        cache = f"The cache of frozen sets (see {_CACHE_VARIABLE})"
        make_writable(cache, path.parent)
        _LOGGER.info("Drawing the %s set (%d samples).", split, size)
        if positions is None:
            links = _draw(scenario, split, num_samples)
        else:
            links = position_sets.trace(scenario, *positions, path.with_suffix(""))
        TRACER_THREAD.release_memory()
        _write(path, links, fingerprint)
    return links if size == num_samples else position_sets.some(links, num_samples)


def cache_path(scenario: Any, split: str, num_samples: int) -> Path:
    """Return where a set is cached: `$SIONNA_LOC_CACHE` or `~/.cache/sionna_loc`."""
    folder = os.environ.get(_CACHE_VARIABLE) or Path.home() / ".cache" / "sionna_loc"
    digest = _fingerprint(scenario, split)[:16]
    return Path(folder) / f"{scenario.name}-{split}-{num_samples}-{digest}.npz"


def _fingerprint(scenario: Any, split: str) -> str:
    """Return a digest of everything that the links of a set depend on.

    `_SUBSET_SEED` is not part of it: a file has all sites, chosen from when read.
    """
    text = f"{scenario.fingerprint()} {_SPLIT_SALTS[split]}"
    if scenario.split_positions(split) is None:
        text += f" {_DRAWING}"
    return hashlib.sha256(text.encode()).hexdigest()


def _draw(scenario: Any, split: str, num_samples: int) -> dict[str, np.ndarray]:
    """Draw as many drops as the samples take."""
    num_drops = -(-num_samples // scenario.sizes.num_frozen_ues)
    drops = [draw_rows(scenario, split, index) for index in range(num_drops)]
    return {
        name: np.concatenate([drop[name] for drop in drops])[:num_samples]
        for name in FIELDS
    }


def draw_rows(
    scenario: Any, split: str, index: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw the samples of one drop of a set, each with the links to all sites.

    UEs that hear fewer TRPs than the scenario allows are replaced, from spare drops
    that belong to this one alone: no drop depends on another, so that they can be
    drawn in any order and in several processes.

    Args:
        scenario: whose channels they are.
        split: `"train"`, `"validation"` or `"test"`.
        index: int >= 0. Of the drop.
        seed: int >= 0. 0 for the sets that are cached.

    Returns: fields of the sample contract, [num_frozen_ues, num_sites, ...], and
        `ue_position` [num_frozen_ues, 3].
    Raises: UserError if hardly any UE hears enough TRPs; where the scenario names the
        UEs, if there are not so many, or for another seed.
    """
    if (positions := scenario.split_positions(split)) is not None:
        fixed = f"The sets of {scenario.name} are the same for all seeds: take 0."
        check(seed == 0, fixed, seed=seed)
        return position_sets.drop_rows(scenario, *positions, index)
    num_ues = scenario.sizes.num_frozen_ues
    parts: list[dict[str, np.ndarray]] = []
    missing = num_ues
    for attempt in range(_MAX_REDRAWS):
        key = [index | seed << 32, _SPLIT_SALTS[split] | attempt << 32]
        rows = as_rows(scenario.drop(tf.constant(key, tf.int64), num_ues, split))
        heard = (rows["num_paths"] > 0).sum(axis=1)
        good = np.flatnonzero(heard >= scenario.min_trps)[:missing]
        parts.append({name: values[good] for name, values in rows.items()})
        missing -= len(good)
        if not missing:
            return {n: np.concatenate([part[n] for part in parts]) for n in FIELDS}
    raise UserError(
        f"Hardly any UE of the scenario hears {scenario.min_trps} TRPs. "
        f"Received: scenario={scenario.name!r}."
    )


def as_rows(drop: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Return a drop's UEs as samples, each with the positions of all sites."""
    rows = {name: values.numpy() for name, values in drop.items()}
    sites, num_ues = rows["trp_position"], len(rows["ue_position"])
    rows["trp_position"] = np.broadcast_to(sites, (num_ues, *sites.shape))
    return rows


def _choose_sites(
    links: dict[str, np.ndarray], num_trps: int, min_trps: int
) -> dict[str, np.ndarray]:
    """Give each sample `num_trps` random sites of which it hears enough.

    Sets that hear too few are drawn again, as in the stream; should a UE hear very
    few sites at all, the sites that it hears come first in the end. All sites keep
    their order.
    """
    heard = links["num_paths"] > 0  # [num_samples, num_sites]
    if num_trps == heard.shape[1]:
        return links
    chosen = np.zeros((len(heard), num_trps), np.int64)
    waiting = np.arange(len(heard))
    generator = np.random.default_rng([_SUBSET_SEED, num_trps])
    for attempt in range(_MAX_REDRAWS + 1):
        noise = generator.random((len(waiting), heard.shape[1]))
        if attempt == _MAX_REDRAWS:
            noise -= heard[waiting]
        sites = np.argsort(noise, axis=1)[:, :num_trps]
        chosen[waiting] = sites
        count = np.take_along_axis(heard[waiting], sites, axis=1).sum(axis=1)
        waiting = waiting[count < min_trps]
        if not len(waiting):
            break
    rows = np.arange(len(heard))[:, None]
    return {
        name: values[rows, chosen] if FIELDS[name].is_per_trp else values
        for name, values in links.items()
    }


def _read(path: Path, fingerprint: str) -> dict[str, np.ndarray] | None:
    """Return the cached set, `None` if there is none or it is not this scenario's."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["fingerprint"]) != fingerprint:
                return None
            return {name: file[name] for name in FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"The cached set is damaged ({type(error).__name__}): delete the file and "
            f"it is drawn again. Received: file={str(path)!r}."
        ) from error


def _write(path: Path, links: dict[str, np.ndarray], fingerprint: str) -> None:
    """Write the set so that a reader finds all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, fingerprint=np.array(fingerprint), **links)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
