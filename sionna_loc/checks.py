"""Argument checks: one form of message for the whole library.

Every message says what is wrong, what is expected, and ends in
`Received: name=value`.
"""

import contextlib
import difflib
import math
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake in what the user passed in; a CLI prints it as one line."""


def check(condition: bool, expectation: str, **received: Any) -> None:
    """Raise `UserError` with `expectation` and the values unless `condition`."""
    if not condition:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise UserError(f"{expectation} Received: {values}.")


def check_number(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a finite number."""
    check(_is_number(value), f"`{name}` must be a number.", **{name: value})


def check_positive(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a finite number above 0."""
    ok = _is_number(value) and value > 0
    check(ok, f"`{name}` must be a number above 0.", **{name: value})


def check_not_negative(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a finite number of 0 or more."""
    ok = _is_number(value) and value >= 0
    check(ok, f"`{name}` must be a number of 0 or more.", **{name: value})


def check_positive_int(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is an int of 1 or more."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    check(ok, f"`{name}` must be a whole number of 1 or more.", **{name: value})


def check_not_negative_int(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is an int of 0 or more."""
    ok = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    check(ok, f"`{name}` must be a whole number of 0 or more.", **{name: value})


def check_list(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a list, a tuple or the like."""
    ok = isinstance(value, Collection) and not isinstance(value, str | dict)
    check(ok, f"`{name}` must be a list.", **{name: value})


def check_bool(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is True or False."""
    check(isinstance(value, bool), f"`{name}` must be true or false.", **{name: value})


def check_seed(seed: Any) -> None:
    """Raise `UserError` unless random numbers can begin with it."""
    check(
        isinstance(seed, int) and 0 <= seed < 2**31,
        "`seed` must be a whole number from 0 to 2^31 - 1.",
        seed=seed,
    )


def check_writable(what: str, folder: Path) -> None:
    """Raise `UserError`, naming `what` goes there, unless files can be made in it."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{what} cannot be written: {error.strerror}. "
            f"Received: folder={str(folder)!r}."
        ) from error


def make_writable(what: str, folder: Path) -> None:
    """Make a folder if need be; raise as `check_writable` does if that fails."""
    with contextlib.suppress(OSError):  # what is wrong, the check says
        folder.mkdir(parents=True, exist_ok=True)
    check_writable(what, folder)


def check_known(kind: str, name: str, known: Collection[str]) -> None:
    """Raise `UserError`, naming the nearest and all known names, if unknown."""
    if isinstance(name, str) and name in known:
        return
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    names = ", ".join(sorted(known))
    raise UserError(f"Unknown {kind} {name!r}.{hint} Known: {names}.")


def _is_number(value: Any) -> bool:
    """Return whether `value` is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
