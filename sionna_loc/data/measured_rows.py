"""Changes of measured samples while they are read: fewer TRPs, another frame."""

from dataclasses import dataclass

import numpy as np

from sionna_loc.checks import check, check_bool, check_not_negative
from sionna_loc.constants import SPEED_OF_LIGHT

_PASS_SALT = 0x9A55
_PER_TRP, _PER_SAMPLE = 3, 2
"""Random numbers that `Changes` takes."""


@dataclass(frozen=True)
class Changes:
    """What training changes at random, each time it sees a sample.

    Args:
        augment: bool. Turn each sample in the plane, and mirror every other.
        mute: float in [0, 1). Share of the TRPs taken for unheard, but for one.
        range_jitter: float >= 0 [m]. Standard deviation of what is added to ranges.
        power_jitter: float >= 0 [dB]. The same of received powers.

    Raises: UserError if a number cannot be.
    """

    augment: bool = False
    mute: float = 0.0
    range_jitter: float = 0.0
    power_jitter: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_bool("augment", self.augment)
        for name in ("mute", "range_jitter", "power_jitter"):
            check_not_negative(name, getattr(self, name))
        check(self.mute < 1, "`mute` must be below 1.", mute=self.mute)

    def __call__(
        self,
        tokens: dict[str, np.ndarray],
        lengths: np.ndarray,
        ue_position: np.ndarray,
        chance: np.ndarray,
        centre: np.ndarray,
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Change a batch.

        Args:
            tokens: of `MeasuredFile.read`.
            lengths: [n], int. TRPs of each sample.
            ue_position: [n, 3] [m].
            chance: [n, num_numbers], of `draw_pass`.
            centre: [3] [m]. Samples are turned about it.

        Returns: tokens, UEs' places, and how many TRPs each sample has then.
        """
        owner, within = places(lengths)
        of_trp = chance[:, _PER_SAMPLE:].reshape(len(lengths), -1, _PER_TRP)
        of_trp = of_trp[owner, within]  # [num_tokens, 3]
        if self.augment:
            frames = chance[:, :_PER_SAMPLE]
            tokens, ue_position = turn(tokens, lengths, ue_position, frames, centre)
        if "link" in tokens and (self.range_jitter or self.power_jitter):
            deviation = [self.power_jitter, self.range_jitter / SPEED_OF_LIGHT]
            link = tokens["link"].copy()
            added = _normal(of_trp[:, :2]) * deviation
            link[:, :2] += np.where(tokens["trp_heard"][:, None], added, 0.0)
            tokens = {**tokens, "link": link}
        if self.mute:
            tokens, lengths = self._muted(tokens, lengths, of_trp[:, 2])
        return tokens, ue_position, lengths

    def _muted(
        self, tokens: dict[str, np.ndarray], lengths: np.ndarray, chance: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Take TRPs for unheard: with CIRs, they are not there any more."""
        owner, within = places(lengths)
        heard = tokens.get("trp_heard", np.ones(len(owner), bool))
        best = np.full((len(lengths), int(lengths.max())), -1.0)
        best[owner, within] = np.where(heard, chance, -1.0)
        is_best = best[owner, within] == best.max(axis=1)[owner]
        heard = heard & ((chance >= self.mute) | is_best)
        if "link" not in tokens:
            kept = {name: values[heard] for name, values in tokens.items()}
            return kept, np.bincount(owner[heard], minlength=len(lengths))
        link = np.where(heard[:, None], tokens["link"], np.float32(0))
        return {**tokens, "link": link, "trp_heard": heard}, lengths


def draw_pass(
    numbers: np.ndarray, num_sites: int, seed: int, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of a pass, and what is random about each sample in it.

    Args:
        numbers: [n], int. The samples.
        num_sites: int > 0. Most TRPs that a sample has.
        seed: int. Of the training.
        index: int. Of the pass.

    Returns: the samples, [n]; ranks of their TRPs, see `choose_trps`, [n, num_sites];
        and numbers for `Changes`, [n, num_numbers]; all in [0, 1).
    """
    draw = np.random.default_rng([seed, _PASS_SALT, index])
    order = numbers[draw.permutation(len(numbers))]
    ranks = draw.random((len(numbers), num_sites), np.float32)
    size = _PER_SAMPLE + num_sites * _PER_TRP
    return order, ranks, draw.random((len(numbers), size), np.float32)


def choose_trps(
    lengths: np.ndarray, heard: np.ndarray | None, ranks: np.ndarray, num_trps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose so many TRPs of each sample, or all if it has fewer.

    Args:
        lengths: [n], int. TRPs of each sample.
        heard: [num_tokens], bool. Whether each is heard; all are if None.
        ranks: [n, num_sites]. Those with the smallest are chosen, but one that is heard
            in any case.
        num_trps: int > 0.

    Returns: which are kept, [num_tokens], bool, and how many each sample has then.
    """
    owner, within = places(lengths)
    rank = np.full(ranks.shape, np.inf)
    rank[owner, within] = ranks[owner, within]
    is_heard = np.zeros(ranks.shape, bool)
    is_heard[owner, within] = True if heard is None else heard
    first = np.where(is_heard, rank, np.inf).argmin(axis=1)
    rank[np.arange(len(rank)), first] = -1.0
    place = rank.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    kept = place[owner, within] < num_trps
    return kept, np.bincount(owner[kept], minlength=len(lengths))


def turn(
    tokens: dict[str, np.ndarray],
    lengths: np.ndarray,
    ue_position: np.ndarray,
    frames: np.ndarray,
    centre: np.ndarray,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Turn and mirror each sample in the plane, TRPs, directions and UE alike.

    Args:
        tokens: with `trp_position` [num_tokens, 3] and maybe `link` [num_tokens, 5].
        lengths: [n], int. TRPs of each sample.
        ue_position: [n, 3].
        frames: [n, 2], float in [0, 1). Angle [turns], and mirrored if below 0.5.
        centre: [3]. What stays where it is.

    Returns: tokens and UEs' places, new ones.
    """
    angle = 2 * np.pi * frames[:, 0]
    mirror = np.where(frames[:, 1] < 0.5, -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.stack([cos, -sin * mirror, sin, cos * mirror], -1).reshape(-1, 2, 2)
    of_token = np.repeat(matrix, lengths, axis=0)

    def turned(values: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        plane = np.einsum("nij,nj->ni", matrices, values[:, :2])
        return np.concatenate([plane, values[:, 2:]], axis=1).astype(values.dtype)

    centre = np.array([*centre[:2], 0.0], np.float32)
    tokens = dict(tokens)
    tokens["trp_position"] = centre + turned(tokens["trp_position"] - centre, of_token)
    if "link" in tokens:
        link = tokens["link"]
        direction = turned(link[:, 2:], of_token)
        tokens["link"] = np.concatenate([link[:, :2], direction], axis=1)
    return tokens, centre + turned(ue_position - centre, matrix)


def places(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sample of each TRP, and its place in it, [num_tokens] each."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - first[owner]


def _normal(uniform: np.ndarray) -> np.ndarray:
    """Return standard normal numbers [n, 2] for uniform ones [n, 2] in [0, 1).

    References: Box and Muller, "A Note on the Generation of Random Normal Deviates".
    """
    radius = np.sqrt(-2.0 * np.log1p(-uniform[:, :1]))
    angle = 2 * np.pi * uniform[:, 1:]
    return radius * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
