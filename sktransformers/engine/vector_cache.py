"""What frozen layers made of a row, kept for the next fit that asks for the same.

The folds and candidates of a search share their rows: each is run through the layers
once. Rows are known by their content, so that their order and company do not matter.
"""

import hashlib
import os
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

_MOST_BYTES = 2**28
_KEY_BYTES = 16
_SUFFIX = ".safetensors"


class VectorCache:
    """Vectors by key: in memory up to a bound and, given a folder, on disk.

    Parameters
    ----------
    folder : str or None, default=None
        Where other processes find them. None: in memory alone.
    most_bytes : int, default=2**28
        Memory that the vectors may take; what is full starts anew.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._folder = None if folder is None else Path(folder)
        self._most_bytes = most_bytes
        self._vectors: dict[bytes, np.ndarray] = {}
        self._n_bytes = 0
        self._files: dict[Path, list[bytes]] = {}
        self._lock = threading.Lock()

    def find(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors of those keys that are known."""
        with self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            if self._folder is not None and len(found) < len(keys):
                read = self._read({key for key in keys if key not in found})
                self._remember(read)
                found |= read
        return found

    def add(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Keep some vectors, each of shape (n_outputs, width), of one width."""
        with self._lock:
            self._remember(vectors)
            if self._folder is not None and vectors:
                self._write(self._folder, vectors)

    def _remember(self, vectors: dict[bytes, np.ndarray]) -> None:
        n_bytes = sum(vector.nbytes for vector in vectors.values())
        if self._n_bytes + n_bytes > self._most_bytes:
            self._vectors, self._n_bytes = {}, 0
        if n_bytes <= self._most_bytes:
            self._vectors.update(vectors)
            self._n_bytes += n_bytes

    def _read(self, keys: set[bytes]) -> dict[bytes, np.ndarray]:
        """Return what the files hold of some keys; a broken file holds nothing."""
        assert self._folder is not None
        read = {}
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path in self._files and keys.isdisjoint(self._files[path]):
                continue
            try:
                arrays = load_file(path)
                owners = arrays["keys"].reshape(-1, _KEY_BYTES)
                parts = np.split(arrays["values"], arrays["offsets"][1:-1])
            except (OSError, SafetensorError, KeyError, ValueError):
                self._files[path] = []
                continue
            self._files[path] = names = [row.tobytes() for row in owners]
            pairs = zip(names, parts, strict=False)
            read.update({key: part for key, part in pairs if key in keys})
        return read

    def _write(self, folder: Path, vectors: dict[bytes, np.ndarray]) -> None:
        """Write a file of its own, which others see when it is whole."""
        folder.mkdir(parents=True, exist_ok=True)
        sizes = [len(vector) for vector in vectors.values()]
        arrays = {
            "keys": np.frombuffer(b"".join(vectors), dtype=np.uint8),
            "offsets": np.cumsum([0, *sizes]),
            "values": np.concatenate(list(vectors.values())),
        }
        path = folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        part = path.with_suffix(".part")
        save_file(arrays, part)
        os.replace(part, path)
        self._files[path] = list(vectors)


_CACHES: dict[str | None, VectorCache] = {None: VectorCache()}


def cache_in(folder: str | None) -> VectorCache:
    """Return this process's cache: of vectors in a folder, or in memory alone."""
    return _CACHES.setdefault(folder, VectorCache(folder))


def keys_of(source: str, rows: Sequence[Sequence[np.ndarray]]) -> list[bytes]:
    """Return what identifies each row.

    Parameters
    ----------
    source : str
        Whatever the vectors depend on beside the row.
    rows : sequence of sequences of ndarray
        The arrays that each row consists of.

    Returns
    -------
    list of bytes
        A key for each row.
    """
    start = hashlib.blake2b(source.encode(), digest_size=_KEY_BYTES)
    keys = []
    for row in rows:
        digest = start.copy()
        for part in row:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(part).data)
        keys.append(digest.digest())
    return keys
