"""Files of measurements as one set, and which samples train, validate and test."""

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sionna_loc.checks import check, check_list, check_not_negative
from sionna_loc.data.measured import MeasuredFile
from sionna_loc.data.measured_form import check_form
from sionna_loc.features.cir_form import CirForm
from sionna_loc.features.link_form import LinkForm
from sionna_loc.sample import SPLITS

_SPLIT_SEED = 0x5917
_CHUNK = 1 << 22
_CHECKED_AT_A_TIME = 256


class MeasuredSet:
    """The samples of some files, numbered one file after the other.

    Which split a sample belongs to, the files' field `split` says. Without it, samples
    are drawn for validation and test, all of one group together: those of a file with
    one `group`, or, without that field, all of any file at exactly one place. So no
    model is tested where it was trained. Which samples test depends on `test_share`
    and not on `validation_share`.

    Args:
        files: paths, see `MeasuredFile`; all of one form of CIRs.
        test_files: paths of further files, all of whose samples are for testing. No
            sample of `files` is then drawn for that.
        validation_share: float >= 0. Of the samples whose split is drawn.
        test_share: float >= 0. Likewise.

    Attributes:
        ue_position: [num_samples, 3], float32 [m].
        splits: split -> numbers of its samples, rising.
        num_sites: int. Most TRPs that a sample has.

    Raises: UserError if a file is not as it must be, has no `ue_position`, or files
        differ in what they hold.
    """

    def __init__(
        self,
        files: Sequence[str],
        test_files: Sequence[str] = (),
        validation_share: float = 0.1,
        test_share: float = 0.1,
    ) -> None:
        check_list("files", files)
        check_list("test_files", test_files)
        check(
            len(files) + len(test_files) > 0,
            "There must be a file of measurements: --measurements FILE.",
            files=files,
        )
        for name, share in (
            ("validation_share", validation_share),
            ("test_share", test_share),
        ):
            check_not_negative(name, share)
        check(
            validation_share + test_share < 1,
            "`validation_share` and `test_share` must leave samples to train on.",
            validation_share=validation_share,
            test_share=test_share,
        )
        self._files = [MeasuredFile(path) for path in (*files, *test_files)]
        self._check_files()
        sizes = [file.num_samples for file in self._files]
        self._first = np.cumsum([0, *sizes])
        self._checked: set[str] = set()
        self.ue_position = np.concatenate([file.ue_position for file in self._files])
        self.num_sites = int(max(file.lengths.max() for file in self._files))
        shares = (validation_share, 0.0 if len(test_files) else test_share)
        self.splits = self._split(shares, num_drawn=len(files))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What models the files serve: values of `Localizer.features`."""
        return self._files[0].form.kinds

    @property
    def forms(self) -> dict[str, CirForm | LinkForm]:
        """What the samples are, by what models take."""
        return self._files[0].form.forms

    def check_values(self, kind: str) -> None:
        """Raise `UserError` unless the files serve models that take `kind`.

        All values are read, once, so that nothing shows in the middle of a training.
        """
        if kind in self._checked:
            return
        for file in self._files:
            file.check_kind(kind)
            for start in range(0, file.num_samples, _CHECKED_AT_A_TIME):
                stop = min(start + _CHECKED_AT_A_TIME, file.num_samples)
                file.read(np.arange(start, stop), kind)
        self._checked.add(kind)

    def read(
        self, samples: np.ndarray, kind: str
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Read samples, in the order asked for; see `MeasuredFile.read`."""
        owner = np.searchsorted(self._first, samples, side="right") - 1
        parts, lengths, order = [], [], []
        for number in np.unique(owner):
            chosen = np.flatnonzero(owner == number)
            inside = samples[chosen] - self._first[number]
            part, length = self._files[number].read(inside, kind)
            parts.append(part)
            lengths.append(length)
            order.append(chosen)
        if len(parts) == 1:
            return parts[0], lengths[0]
        lengths, order = np.concatenate(lengths), np.concatenate(order)
        place = np.argsort(order, kind="stable")
        ends = np.cumsum(lengths)
        rows = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in place])
        joined = {
            name: np.concatenate([part[name] for part in parts])[rows]
            for name in parts[0]
        }
        return joined, lengths[place]

    def config(self) -> dict[str, Any]:
        """Return digests of the files and of the splits, as JSON can hold them."""
        splits = {
            split: hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()
            for split, numbers in self.splits.items()
        }
        return {"files": self._digests, "splits": splits}

    @functools.cached_property
    def _digests(self) -> list[list[str]]:
        """Name and digest of each file, which may be large: they are read once."""
        return [[Path(f.path).name, _digest_of_file(f.path)] for f in self._files]

    def _check_files(self) -> None:
        """Raise `UserError` unless all files have places, and the same form."""
        first = self._files[0]
        for file in self._files:
            check(
                file.ue_position is not None,
                f"{file.path}: the field `ue_position` is required to train or test.",
                ue_position=None,
            )
            check(
                file.form.kinds == first.form.kinds,
                "All files of measurements must hold CIRs, link measurements, or both.",
                **{str(f.path): f.form.kinds for f in (first, file)},
            )
            for kind, form in file.form.forms.items():
                whose = f"{first.path}'s"
                check_form(str(file.path), form, first.form.forms[kind], whose)

    def _split(
        self, shares: tuple[float, float], num_drawn: int
    ) -> dict[str, np.ndarray]:
        """Return the numbers of the samples of each split."""
        unsplit = [file for file in self._files[:num_drawn] if file.split is None]
        drawn = iter(_draw_splits(unsplit, shares))
        parts = []
        for number, file in enumerate(self._files):
            if number >= num_drawn:
                parts.append(np.full(file.num_samples, SPLITS.index("test")))
            else:
                parts.append(next(drawn) if file.split is None else file.split)
        whole = np.concatenate(parts)
        return {name: np.flatnonzero(whole == i) for i, name in enumerate(SPLITS)}


def _draw_splits(
    files: Sequence[MeasuredFile], shares: tuple[float, float]
) -> list[np.ndarray]:
    """Return the split of each sample of each file; groups stay together."""
    if not files:
        return []
    group = _groups(files)
    sizes = np.bincount(group)
    generator = np.random.default_rng([_SPLIT_SEED, len(sizes)])
    order = generator.permutation(len(sizes))
    # A group goes where its middle falls when all are laid one after the other.
    middle = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(group)
    validation, test = shares
    drawn = np.select([middle < test, middle < test + validation], [2, 1], 0)
    split = np.empty(len(sizes), np.int64)
    split[order] = drawn
    ends = np.cumsum([file.num_samples for file in files])
    return np.split(split[group], ends[:-1])


def _groups(files: Sequence[MeasuredFile]) -> np.ndarray:
    """Return the number of the group of each sample of all files, from 0 on."""
    keys = []
    for number, file in enumerate(files):
        key = np.zeros((file.num_samples, 4))
        if file.group is None:
            key[:, :3] = file.ue_position
        else:  # no place: of this file alone
            key[:, 0], key[:, 3] = file.group, number + 1
        keys.append(key)
    _, group = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    return group.ravel()


def _digest_of_file(path: Any) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
