"""Endless samples, traced while a model trains on them.

A drop traces many sites x many UEs at once. The drops of a block are pooled: every
UE gives several samples, each with TRPs of its own, and all of them are shuffled.
Every random choice is a stateless function of the seed and of the index of the drop
or block, so the sequence of samples depends neither on the batch size, nor on where
reading starts, nor on how many drops are traced in parallel.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from sionna_loc.checks import (
    check,
    check_not_negative,
    check_not_negative_int,
    check_positive_int,
)
from sionna_loc.data.augmentation import NEEDED, Turning, draw_chance
from sionna_loc.data.ragged import chosen_fields, to_ragged, to_sample

_DROP_SALT, _SAMPLE_SALT = 0x5712EA, 0x5A3B1E
"""Tell the seeds of drops from those of samples, and both from the frozen sets'."""

_SPARE_SHARE = 0.125
"""Share of samples drawn in addition, to replace those that hear too few TRPs."""

_CHANCE = "chance"
"""Random numbers of each row, beside the fields of the contract."""

_CANDIDATES_PER_EMPHASIS = 2
"""Samples that are drawn for each one of a stream with an emphasis of 1."""


def batches(
    scenario: Any,
    batch_size: int,
    *,
    seed: int = 0,
    num_trps: int | None = None,
    start: int = 0,
    fields: tuple[str, ...] | None = None,
    emphasis: float = 0.0,
    keep_silent: bool = False,
    augment: str | None = None,
) -> tf.data.Dataset:
    """Return the stream in ragged batches; see `Scenario.batches`."""
    check_positive_int("batch_size", batch_size)
    check_not_negative("emphasis", emphasis)
    fields = chosen_fields(fields)
    turning = Turning.asked_for(augment, scenario.region)
    carried = tuple(dict.fromkeys((*fields, *NEEDED)))
    rows = _rows(
        scenario, seed, num_trps, start, carried, emphasis, turning is not None
    )
    if turning is None:
        return endless_batches(
            rows, batch_size, lambda batch: to_ragged(batch, fields, keep_silent)
        )

    def to_batch(batch: dict[str, tf.Tensor]) -> dict[str, Any]:
        ragged = to_ragged(batch, carried, keep_silent)
        ragged = turning(ragged, batch[_CHANCE])
        return {name: ragged[name] for name in fields}

    return endless_batches(rows, batch_size, to_batch)


def stream(
    scenario: Any, *, seed: int = 0, num_trps: int | None = None, start: int = 0
) -> tf.data.Dataset:
    """Return the stream of single samples; see `Scenario.stream`."""
    rows = _rows(scenario, seed, num_trps, start, chosen_fields(None))
    return rows.unbatch().map(to_sample)


def endless_batches(
    rows: tf.data.Dataset, batch_size: int, to_batch: Callable[..., Any]
) -> tf.data.Dataset:
    """Return endless rows, in chunks of any size, as batches that `to_batch` makes."""
    rows = rows.rebatch(batch_size, drop_remainder=True)
    dataset = rows.map(to_batch)
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return dataset.apply(endless).prefetch(2)


def check_num_trps(scenario: Any, num_trps: int | None) -> int:
    """Return the number of TRPs of a sample, or raise `UserError`."""
    if num_trps is None:
        return scenario.num_trps
    check_positive_int("num_trps", num_trps)
    check(
        num_trps <= scenario.num_sites,
        f"`num_trps` must be at most the {scenario.num_sites} TRPs that there are.",
        num_trps=num_trps,
    )
    return num_trps


def _rows(
    scenario: Any,
    seed: int,
    num_trps: int | None,
    start: int,
    fields: tuple[str, ...],
    emphasis: float = 0.0,
    with_chance: bool = False,
) -> tf.data.Dataset:
    """Return dense rows, [rows, num_trps, ...] in chunks of up to a block.

    With `with_chance` they have what `Turning` takes besides, as `_CHANCE`.
    """
    num_trps = check_num_trps(scenario, num_trps)
    check_not_negative_int("start", start)
    sizes = scenario.sizes
    first_block, skipped = divmod(start, sizes.samples_per_block)
    pool_fields = tuple(dict.fromkeys((*fields, "num_paths", "los")))
    carried = (*fields, _CHANCE) if with_chance else fields

    def block(index: tf.Tensor, pool: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        block_seed = fold_seed(seed, _SAMPLE_SALT, index)
        rows = draw_samples(
            pool,
            block_seed,
            num_samples=sizes.samples_per_block,
            num_trps=num_trps,
            min_trps=min(scenario.min_trps, num_trps),
            emphasis=emphasis,
            site_sets=scenario.site_sets(num_trps),
        )
        begin = tf.where(index == first_block, skipped, 0)
        if with_chance:
            rows[_CHANCE] = draw_chance(block_seed, sizes.samples_per_block)
        return {name: rows[name][begin:] for name in carried}

    first_drop = first_block * sizes.drops_per_block
    if scenario.prepared is None:
        pools = drops(scenario, seed, first_drop, pool_fields)
    else:
        pools = scenario.prepared.drops(first_drop, pool_fields)
    pools = pools.batch(sizes.drops_per_block, drop_remainder=True)
    pools = tf.data.Dataset.zip(tf.data.Dataset.counter(first_block), pools)
    return pools.map(block).prefetch(1)


def drops(
    scenario: Any, seed: int, first: int, fields: tuple[str, ...]
) -> tf.data.Dataset:
    """Return the drops of the stream, endless.

    Args:
        scenario: whose channels they are.
        seed: int. Of the stream.
        first: int >= 0. Index of the first drop.
        fields: names of the fields to carry.

    Returns: dataset of drops, as `Scenario.drop` gives them.
    """

    def drop(index: tf.Tensor) -> dict[str, tf.Tensor]:
        values = scenario.drop(fold_seed(seed, _DROP_SALT, index))
        return {name: values[name] for name in fields}

    indices = tf.data.Dataset.counter(first)
    return indices.map(drop, num_parallel_calls=2, deterministic=True)


def draw_samples(
    pool: dict[str, tf.Tensor], seed: tf.Tensor, **options: Any
) -> dict[str, tf.Tensor]:
    """Draw shuffled samples from pooled drops, each with a random set of sites.

    Args:
        pool: fields of drops, [drops, num_sites, 3] for `trp_position`,
            [drops, num_ues, 3] for `ue_position`, else
            [drops, num_ues, num_sites, ...].
        seed: [2], integer.
        **options: see `choose_samples`.

    Returns: the same fields, [num_samples, num_trps, ...], `ue_position`
        [num_samples, 3].
    """
    num_ues, num_sites = pool["num_paths"].shape[1:3]
    ue, site = choose_samples(pool, seed, **options)
    link = ue[:, None] * num_sites + site
    rows = {}
    for name, values in pool.items():
        if name == "ue_position":
            rows[name] = tf.gather(tf.reshape(values, [-1, 3]), ue)
        elif name == "trp_position":
            drop = ue[:, None] // num_ues
            rows[name] = tf.gather(tf.reshape(values, [-1, 3]), drop * num_sites + site)
        else:
            flat = tf.reshape(values, [-1, *values.shape[3:]])
            rows[name] = tf.gather(flat, link)
    return rows


def choose_samples(
    pool: dict[str, tf.Tensor],
    seed: tf.Tensor,
    *,
    num_samples: int,
    num_trps: int,
    min_trps: int,
    emphasis: float = 0.0,
    site_sets: np.ndarray | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose shuffled samples from pooled drops, each with a random set of sites.

    The sites of a sample are in random order, unless it has all of them.

    Every UE gives the same number of samples, but for those that hear fewer than
    `min_trps` of their TRPs: they are replaced by others drawn in addition. With an
    emphasis, more samples are drawn than asked for, and those with few TRPs in line of
    sight are kept more often.

    Args:
        pool: `num_paths` of drops, [drops, num_ues, num_sites].
        seed: [2], integer.
        num_samples: int > 0.
        num_trps: int > 0. Sites of a sample, heard or not.
        min_trps: int > 0. Fewest sites that a sample hears.
        emphasis: float >= 0. A sample with `n` TRPs in line of sight has the weight
            `(1 + n)^-emphasis`; needs the field `los` too.
        site_sets: [num_sets, num_trps], int, or None. The sets of sites that samples
            may have. Each UE goes through all of them from one drawn at random;
            without, each sample has random sites.

    Returns: the index of each sample's UE, counted over all drops [num_samples], and
        the indices of its sites in their drop [num_samples, num_trps].
    """
    num_drops, num_ues, num_sites = pool["num_paths"].shape[:3]
    num_candidates = 1
    if emphasis:  # at least two, or there is nothing to choose from
        num_candidates = max(2, math.ceil(_CANDIDATES_PER_EMPHASIS * emphasis))
    num_even = num_samples * num_candidates
    num_drawn = num_even + max(8, int(_SPARE_SHARE * num_samples))
    ue_seed, site_seed, order_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 3)
    )
    ue = _draw_ues(num_drops * num_ues, num_even, num_drawn, ue_seed)  # [drawn]
    if site_sets is None:
        site = _draw_sites(num_drawn, num_sites, num_trps, site_seed)
    else:
        site = _sites_of_sets(site_sets, ue, num_drops * num_ues, site_seed)
    link = ue[:, None] * num_sites + site
    heard = tf.gather(tf.reshape(pool["num_paths"], [-1]), link) > 0
    is_good = tf.reduce_sum(tf.cast(heard, tf.int32), axis=1) >= min_trps
    if emphasis:
        in_sight = tf.gather(tf.reshape(pool["los"], [-1]), link)
        num_in_sight = tf.reduce_sum(tf.cast(in_sight, tf.float32), axis=1)
        is_good = _weighted_choice(
            is_good, (1 + num_in_sight) ** -emphasis, num_samples, seed
        )
    taken = _take_good(is_good, num_samples, order_seed)
    return tf.gather(ue, taken), tf.gather(site, taken)


def _weighted_choice(
    is_good: tf.Tensor, weight: tf.Tensor, num_chosen: int, seed: tf.Tensor
) -> tf.Tensor:
    """Return which draws to keep: `num_chosen` good ones, without replacement.

    Each draw waits an exponential time of rate `weight`, [num_drawn]; the first ones
    are kept (Efraimidis and Spirakis, "Weighted Random Sampling With a Reservoir").
    """
    uniform = tf.random.stateless_uniform(tf.shape(weight), seed)
    waiting = -tf.math.log1p(-uniform) / weight
    waiting = tf.where(is_good, waiting, tf.float32.max)
    order = tf.argsort(waiting, stable=True)
    is_first = tf.argsort(order, stable=True) < num_chosen
    return tf.logical_and(is_good, is_first)


def _draw_ues(
    num_ues: int, num_even: int, num_drawn: int, seed: tf.Tensor
) -> tf.Tensor:
    """Return UE indices: all UEs equally often, then random spare ones."""
    spare = tf.random.stateless_uniform(
        [num_drawn - num_even], seed, maxval=num_ues, dtype=tf.int32
    )
    return tf.concat([tf.range(num_even) % num_ues, spare], axis=0)


def _draw_sites(
    num_drawn: int, num_sites: int, num_trps: int, seed: tf.Tensor
) -> tf.Tensor:
    """Return site indices [num_drawn, num_trps], random ones if not all."""
    if num_trps == num_sites:
        return tf.tile(tf.range(num_sites)[None], [num_drawn, 1])
    noise = tf.random.stateless_uniform([num_drawn, num_sites], seed)
    return tf.math.top_k(noise, num_trps).indices


def _sites_of_sets(
    site_sets: np.ndarray, ue: tf.Tensor, num_ues: int, seed: tf.Tensor
) -> tf.Tensor:
    """Return site indices [num_drawn, num_trps] for UEs [num_drawn] in rounds."""
    num_sets = len(site_sets)
    first = tf.random.stateless_uniform(
        [num_ues], seed, maxval=num_sets, dtype=tf.int32
    )
    round_ = tf.range(tf.size(ue)) // num_ues
    site_sets = tf.cast(site_sets, tf.int32)
    return tf.gather(site_sets, (tf.gather(first, ue) + round_) % num_sets)


def _take_good(is_good: tf.Tensor, num_samples: int, seed: tf.Tensor) -> tf.Tensor:
    """Return indices of good draws in random order, the first-drawn ones.

    If fewer are good than asked for, some are taken twice.
    """
    good = tf.where(is_good)[:, 0]
    num_good = tf.size(good)
    tf.debugging.assert_positive(
        num_good, "No sample of a block hears enough TRPs: the drops are too small."
    )
    order = tf.argsort(tf.random.stateless_uniform([num_samples], seed), stable=True)
    return tf.gather(good, order % num_good)


def fold_seed(seed: int, salt: int, index: tf.Tensor) -> tf.Tensor:
    """Return the stateless seed [2] of the drop, block or pass `index`."""
    base = tf.constant([seed, salt], tf.int64)
    return tf.random.fold_in(base, tf.cast(index, tf.int64))
