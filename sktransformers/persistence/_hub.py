"""Saved estimators on the Hugging Face hub: only what the manifest lists is fetched.

The login is the hub client's own; a token is never seen here.
"""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
)

from ..models import hub
from ..models.embedded import EMBEDDED
from ..models.files import quiet
from ._manifest import MANIFEST, listed
from ._state import STATE


def fetch_saved(name: str, revision: str | None) -> Path | None:
    """Find an estimator that was pushed to the hub, in the cache or there.

    Parameters
    ----------
    name : str
        Id of the repository.
    revision : str or None
        Branch, tag or commit; None: "main".

    Returns
    -------
    Path or None
        Its folder in the cache; None where no estimator of ours is found.
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
        return None  # whoever looks for other models says what is wrong
    return folder


def blobs_of(folder: Path) -> Path:
    """Return where the links of a folder in the cache may lead."""
    return folder.parent.parent / "blobs"


def upload(folder: Path, repo_id: str, *, private: bool | None, message: str) -> str:
    """Put a folder's files into a repository on the hub.

    Parameters
    ----------
    folder : Path
        With a manifest.
    repo_id : str
        Made if it is not there.
    private : bool or None
        Of a new repository; None: the account's default.
    message : str
        Of the commit.

    Returns
    -------
    str
        Address of the commit.
    """
    api = huggingface_hub.HfApi()
    with quiet():
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=message,
            # Of an earlier model: they would change how this one is read.
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
    # The hub client takes note of what a repository does not have.
    state = huggingface_hub.hf_hub_download(name, STATE, revision=revision)
    commit = Path(state).parent.name
    manifest = huggingface_hub.hf_hub_download(name, MANIFEST, revision=commit)
    files = [*listed(Path(manifest).parent), MANIFEST]
    return Path(
        huggingface_hub.snapshot_download(name, revision=commit, allow_patterns=files)
    )
