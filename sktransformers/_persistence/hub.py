"""Download and upload saved estimators; only files in the manifest are downloaded.

Authentication is left to huggingface_hub.
"""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
)

from .._models import hub
from .._models.bundled import EMBEDDED
from .._models.files import quiet
from .manifest import MANIFEST, listed
from .state import STATE


def fetch_saved(name: str, revision: str | None) -> Path | None:
    """Find a saved estimator in the local cache or on the Hub.

    Parameters
    ----------
    name : str
        Repository id.
    revision : str or None
        Branch, tag or commit hash. If None, "main" is used.

    Returns
    -------
    Path or None
        Its folder in the cache, or None if there is no saved estimator.
    """
    if name in EMBEDDED and revision is None:
        return None
    try:
        huggingface_hub.utils.validate_repo_id(name)
        folder = _in_cache(name, revision)
        known = hub._look_up(name, STATE, revision or "main")
        is_elsewhere = known is not None and not isinstance(known, str)
        if folder is None and not is_elsewhere and hub._is_reachable():
            with quiet():
                folder = _download(name, revision)
    except (HFValidationError, EntryNotFoundError, HfHubHTTPError, OSError):
        return None  # the search for other checkpoints raises the error
    return folder


def blobs_of(folder: Path) -> Path:
    """Return the folder that symlinks of a folder in the cache may point to."""
    return folder.parent.parent / "blobs"


def upload(folder: Path, repo_id: str, *, private: bool | None, message: str) -> str:
    """Upload the files of a folder to a repository on the Hub.

    Parameters
    ----------
    folder : Path
        Folder with a manifest.
    repo_id : str
        Repository id. The repository is created if it does not exist.
    private : bool or None
        Whether a new repository is private. If None, the default of the account.
    message : str
        Message of the commit.

    Returns
    -------
    str
        URL of the commit.
    """
    api = huggingface_hub.HfApi()
    with quiet():
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=message,
            # Files of a previous model would change how this one is loaded.
            delete_patterns=["*.json", "*.safetensors", "*.jinja"],
        )
    return str(commit.commit_url)


def _in_cache(name: str, revision: str | None) -> Path | None:
    found = hub._look_up(name, MANIFEST, revision or "main")
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    is_whole = all((folder / file).is_file() for file in listed(folder))
    return folder if is_whole else None


def _download(name: str, revision: str | None) -> Path | None:
    # huggingface_hub caches that a repository does not have a file.
    state = huggingface_hub.hf_hub_download(name, STATE, revision=revision)
    commit = Path(state).parent.name
    manifest = huggingface_hub.hf_hub_download(name, MANIFEST, revision=commit)
    files = [*listed(Path(manifest).parent), MANIFEST]
    return Path(
        huggingface_hub.snapshot_download(name, revision=commit, allow_patterns=files)
    )
