"""Cache of the embeddings computed by frozen layers, in memory and on disk.

In a grid search, folds and candidates share texts, so each text is embedded only once.
Cache keys are hashes of the content, independent of the other rows of the batch.
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
    """Cache of vectors in memory and, if a directory is given, on disk. Thread-safe.

    Parameters
    ----------
    folder : str or None, default=None
        Directory, which other processes can share. None caches in memory only.
    most_bytes : int, default=2**28
        Maximum size of the vectors in memory, in bytes. The memory cache is emptied
        when it is full.
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
        """Return the vectors of those keys that are in the cache."""
        with self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            if self._folder is not None and len(found) < len(keys):
                read = self._read({key for key in keys if key not in found})
                self._add_to_memory(read)
                found |= read
        return found

    def add(self, vectors: dict[bytes, np.ndarray]) -> None:
        """Add vectors, each of shape (n_outputs, width), all of the same width."""
        with self._lock:
            self._add_to_memory(vectors)
            if self._folder is not None and vectors:
                self._write(self._folder, vectors)

    def _add_to_memory(self, vectors: dict[bytes, np.ndarray]) -> None:
        n_bytes = sum(vector.nbytes for vector in vectors.values())
        if self._n_bytes + n_bytes > self._most_bytes:
            self._vectors, self._n_bytes = {}, 0
        if n_bytes <= self._most_bytes:
            self._vectors.update(vectors)
            self._n_bytes += n_bytes

    def _read(self, keys: set[bytes]) -> dict[bytes, np.ndarray]:
        """Return the vectors of ``keys`` found on disk; ignore corrupted files."""
        assert self._folder is not None
        read = {}
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path in self._files and keys.isdisjoint(self._files[path]):
                continue
            try:
                arrays = load_file(path)
                file_keys = arrays["keys"].reshape(-1, _KEY_BYTES)
                parts = np.split(arrays["values"], arrays["offsets"][1:-1])
            except (OSError, SafetensorError, KeyError, ValueError):
                self._files[path] = []
                continue
            self._files[path] = names = [row.tobytes() for row in file_keys]
            pairs = zip(names, parts, strict=False)
            read.update({key: part for key, part in pairs if key in keys})
        return read

    def _write(self, folder: Path, vectors: dict[bytes, np.ndarray]) -> None:
        """Write the vectors to a new file, atomically."""
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
    """Return this process's cache for a directory, or the one in memory only."""
    return _CACHES.setdefault(folder, VectorCache(folder))


def keys_of(source: str, rows: Sequence[Sequence[np.ndarray]]) -> list[bytes]:
    """Return the cache key of each row.

    Parameters
    ----------
    source : str
        Identifies everything else the vectors depend on, such as the checkpoint.
    rows : sequence of sequences of ndarray
        Input arrays of each row.

    Returns
    -------
    list of bytes
        Hash of the source and the arrays of each row.
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
