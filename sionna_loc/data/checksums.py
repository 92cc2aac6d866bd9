"""Checksums of the files of a stored set, in the form that `sha256sum -c` reads."""

import hashlib
import os

import tensorflow as tf

from sionna_loc.checks import UserError, check

FILE = "SHA256SUMS"
_CHUNK = 1 << 22


def write_checksums(folder: str) -> None:
    """Write the checksums of all files that lie in a folder."""
    names = sorted(tf.io.gfile.listdir(folder))
    lines = [f"{_digest(os.path.join(folder, name))}  {name}\n" for name in names]
    with tf.io.gfile.GFile(os.path.join(folder, FILE), "w") as file:
        file.write("".join(lines))


def check_files(folder: str) -> str:
    """Check that the files of a folder are those whose checksums it holds.

    Returns: the digest of all of them, 64 hexadecimal digits.
    Raises: UserError, naming the file, if one is missing, truncated or altered.
    """
    path = os.path.join(folder, FILE)
    check(
        tf.io.gfile.exists(path),
        f"The prepared set is not whole ({FILE} is missing): prepare it again.",
        folder=folder,
    )
    with tf.io.gfile.GFile(path) as file:
        text = file.read()
    for line in text.splitlines():
        expected, _, name = line.partition("  ")
        path = os.path.join(folder, name)
        try:
            is_whole = _digest(path) == expected
        except (tf.errors.OpError, OSError) as error:
            raise UserError(
                "A shard of the prepared set is missing or cannot be read: prepare the "
                f"set again. Received: file={path!r}."
            ) from error
        check(
            is_whole,
            "A shard of the prepared set is truncated or altered: delete the set's "
            "folder and prepare it again.",
            file=path,
        )
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: str) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
