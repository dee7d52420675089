"""Hash files, and flush them to disk."""

import hashlib
import os
import sys
from pathlib import Path


def hash_file(path: Path) -> str:
    """Return the SHA-256 hash of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or directory to disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # directories cannot be opened on Windows
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
