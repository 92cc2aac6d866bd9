"""The links of a set's UEs, from which batches of samples or windows are taken."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from sionna_loc.checks import check
from sionna_loc.data.ragged import to_ragged
from sionna_loc.sample import FIELDS


class LinkTable:
    """Gives the samples that consist of chosen UEs and sites, in ragged batches.

    Args:
        links: fields of the UEs' links to all sites, [num_ues, num_sites, ...];
            `num_paths` is needed.
        fields: names of the fields to give.
        keep_silent: bool. Whether sites without a path stay in a sample.
        starts: [num_ues], int, or None. Of each UE the index of the first one of its
            track.
        window: int > 0. Most samples of a window. More than 1 needs `starts` and
            `keep_silent`: else a moment in which nothing is heard would be none.

    Call arguments:
        ue: [batch], int. Index of each sample's UE.
        site: [batch, num_trps], int. Indices of its sites.

    Returns: dict of `fields`; those per TRP are `tf.RaggedTensor`
        [batch, (num_trps), ...]. With windows, each begins with the earliest sample,
        ends with the UE that was asked for, and has the same sites throughout: fields
        per TRP are [batch, (window), (num_trps), ...], the others those of the end.
    Raises: UserError for windows that lack what they need.
    """

    def __init__(
        self,
        links: Mapping[str, np.ndarray],
        fields: tuple[str, ...],
        keep_silent: bool = False,
        starts: np.ndarray | None = None,
        window: int = 1,
    ) -> None:
        check(
            window == 1 or (keep_silent and starts is not None),
            "Windows need tracks, and samples that keep what hears nothing.",
            window=window,
        )
        self._num_sites = links["num_paths"].shape[1]
        names = dict.fromkeys((*fields, "num_paths"))
        with tf.device("CPU"):
            self._values = {name: _by_link(links[name], name) for name in names}
            self._starts = None if window == 1 else tf.constant(starts, tf.int64)
        self._fields = fields
        self._keep_silent = keep_silent
        self._window = window

    def __call__(
        self, ue: tf.Tensor, site: tf.Tensor
    ) -> dict[str, tf.Tensor | tf.RaggedTensor]:
        """Take the samples."""
        ue = tf.cast(ue, tf.int64)
        if self._starts is None:
            return to_ragged(self._rows(ue, site), self._fields, self._keep_silent)
        length = ue - tf.gather(self._starts, ue) + 1
        length = tf.minimum(length, self._window)  # [batch]
        sample = tf.ragged.range(ue - length + 1, ue + 1)  # [batch, (window)]
        site = tf.gather(site, sample.value_rowids())
        rows = self._rows(sample.flat_values, site)
        parts = to_ragged(rows, self._fields, self._keep_silent)
        return {
            name: sample.with_values(part)
            if FIELDS[name].is_per_trp
            else tf.gather(self._values[name], ue)
            for name, part in parts.items()
        }

    def _rows(self, ue: tf.Tensor, site: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the fields of samples, [num_samples, num_trps, ...] per TRP."""
        link = ue[:, None] * self._num_sites + tf.cast(site, tf.int64)
        return {
            name: tf.gather(values, link if FIELDS[name].is_per_trp else ue)
            for name, values in self._values.items()
        }


def _by_link(values: np.ndarray, name: str) -> tf.Tensor:
    """Return fields per TRP [num_ues, num_sites, ...] as [num_links, ...]."""
    if FIELDS[name].is_per_trp:
        values = np.reshape(values, (-1, *values.shape[2:]))
    return tf.constant(values)
