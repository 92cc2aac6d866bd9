"""Changes of measured samples while they are read: fewer TRPs, another frame."""

import numpy as np


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
    owner = np.repeat(np.arange(len(lengths)), lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
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
