"""`huggingface_hub`: where it keeps things, what is asked of it, and whatever it raises in our words.

Its variables choose the cache, the hub and whether there is a network, so that `vit` and other programs agree.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vitcli.errors import Corrupt, Denied, HubError, NotDownloaded, NotFound, Unreachable
from vitcli.escaping import first_line, short
from vitcli.hub import catalog, guard
from vitcli.hub.guard import COMMIT, SHA1, SHA256
from vitcli.hub.repository import LARGEST_INDEX
from vitcli.version import __version__

LARGEST_LISTING = 32 << 20  # bytes of what the hub says of a repository: 100,000 files
LARGEST_UNANNOUNCED = 8 << 30  # bytes of a file of which the hub gives no size
LISTING_TIME = 45.0  # seconds for the whole listing, with redirects and retries
FILE_TIME = 300.0  # seconds for a file, and more for what arrives:
SLOWEST = 4096.0  # bytes a second


def cache() -> Path:
    """The folder of the hub's cache, chosen by the same variables as the client's."""
    environ = os.environ
    home = environ.get("HF_HOME", os.path.join(environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))  # noqa: PTH118
    hub = os.path.join(_expanded(home), "hub")  # noqa: PTH118
    return Path(_expanded(environ.get("HF_HUB_CACHE", environ.get("HUGGINGFACE_HUB_CACHE", hub))))


def command(model: catalog.Model) -> str:
    return f"vit download-weights {model.address}"


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def page(model: catalog.Model) -> str:
    return f"{endpoint()}/{model.repository}" + (f" at {model.revision}" if model.revision else "")


def offline() -> bool:
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


class Expected(NamedTuple):
    """What the hub says of a file; None where it does not say."""

    size: int | None = None
    digest: str | None = None  # SHA-256 of the file, or git's SHA-1


def ask(model: catalog.Model, revision: str) -> tuple[str, dict[str, Expected]]:
    """What the hub says of a repository at a revision: its commit, and what every file must be, by name."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), library_name="vitcli", library_version=__version__)
    # without one the client would wait for ever on a server that accepts and then says nothing
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or 10)
    watch = guard.Guard(f"What {endpoint()} says of {model.repository}", LARGEST_LISTING, LISTING_TIME)
    try:
        info = watch.run(
            lambda: api.model_info(model.repository, revision=revision, files_metadata=True, timeout=timeout)
        )
    except (TypeError, KeyError, AttributeError):  # JSON, but not what a hub says
        info = None
    if info is None or not COMMIT.fullmatch(str(info.sha)):
        raise Unreachable(f"{endpoint()} does not answer as a hub does: it names no commit. Is HF_ENDPOINT right?")
    if COMMIT.fullmatch(revision) and info.sha != revision:
        raise Corrupt(f"{page(model)}: the server answers with another commit than was asked for.")
    listing = {}
    for file in info.siblings or ():
        size, digest = (file.lfs.size, file.lfs.sha256) if file.lfs else (file.size, file.blob_id)
        pattern = SHA256 if file.lfs else SHA1
        sized = size is None or (type(size) is int and size >= 0)
        hashed = digest is None or (isinstance(digest, str) and pattern.fullmatch(digest))
        if not (isinstance(file.rfilename, str) and sized and hashed):
            raise Unreachable(
                f"{endpoint()} does not answer as a hub does: it gives {short(str(file.rfilename))} "
                "an invalid size or hash. Is HF_ENDPOINT right?"
            )
        listing[file.rfilename] = Expected(size, digest)
    return str(info.sha), listing


def fetch(model: catalog.Model, commit: str, name: str, expected: Expected, force: bool) -> Path:
    """One file of a commit in the cache, fetched if it is not there or `force` is set; not yet verified."""
    from huggingface_hub import hf_hub_download

    most = LARGEST_INDEX if name.endswith(".json") else LARGEST_UNANNOUNCED
    watch = guard.Guard(
        f"{name} of {model.repository}",
        most if expected.size is None else expected.size,
        FILE_TIME,
        SLOWEST,
        commit,
        expected.digest,
        expected.size,
    )
    path = watch.run(
        lambda: hf_hub_download(
            model.repository,
            name,
            revision=commit,
            cache_dir=cache(),
            endpoint=endpoint(),
            force_download=force,
            library_name="vitcli",
            library_version=__version__,
        )
    )
    return Path(path)


@contextmanager
def connected(model: catalog.Model, progress: bool) -> Iterator[None]:
    """Keep the client quiet but for its progress bar, and turn whatever it raises into one of our sentences."""
    import logging
    import warnings

    import huggingface_hub.file_download
    import huggingface_hub.hf_api  # noqa: F401  (each sets the level of the logger when it is imported)
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    logger = logging.getLogger("huggingface_hub")
    level, bars = logger.level, not are_progress_bars_disabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not os.environ.get("HF_HUB_VERBOSITY") and not os.environ.get("HF_DEBUG"):
                logger.setLevel(logging.ERROR)  # it logs every retry
            if bars and not progress:
                disable_progress_bars()
            with guard.installed():
                yield
    except HubError:
        raise
    except Exception as error:  # the client lets through what its own dependencies raise, and changes them: httpx, ...
        raise _explained(error, model) from error
    finally:
        logger.setLevel(level)
        if bars and not progress:
            enable_progress_bars()


def _explained(error: Exception, model: catalog.Model) -> HubError:
    """Our error for one of the client's: what happened, and what to do next."""
    import traceback

    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    found = next(filter(None, (_unwritable(e, model) for e in chain)), None)
    if found is None and any("xet" in frame.name for frame in traceback.extract_tb(error.__traceback__)):
        found = Unreachable(
            f"The storage behind {endpoint()} does not deliver {model.repository} ({first_line(error)}). "
            "Try again, or go round it with HF_HUB_DISABLE_XET=1."
        )
    found = found or next(filter(None, (_translated(e, model) for e in chain)), None)
    return found or HubError(f"{model.repository} could not be fetched: {first_line(error)}")


def _unwritable(error: BaseException, model: catalog.Model) -> HubError | None:
    """Our error for a disk that is full or a folder that is not to be written."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return HubError(
            f"No room is left in {cache()} for {model.repository}: nothing unfinished was kept. "
            "Free some space, or set HF_HOME to a folder that has it."
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return HubError(
            f"Cannot write to the cache {cache()} ({os.strerror(number)}). Set HF_HOME to a folder you may write."
        )
    return None


def _translated(error: BaseException, model: catalog.Model) -> HubError | None:
    """Our error for one link of a chain of causes; None where a deeper one says more."""
    from huggingface_hub import errors

    token = "the token in use does not open it" if _has_token() else "set HF_TOKEN to a token that may read it"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NotDownloaded(f"HF_HUB_OFFLINE forbids fetching {model.repository}. Unset it and run: {command(model)}")
    if isinstance(error, errors.GatedRepoError):
        return Denied(f"{page(model)} is gated: accept its conditions there, and {token}.")
    if isinstance(error, errors.RepositoryNotFoundError):
        near = catalog.close(model.name)
        hint = f" Did you mean {near}?" if near and near != model.name else ""
        return NotFound(f"There is no model {page(model)}, or it is private: {token}.{hint}")
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{endpoint()}/{model.repository} has no branch, tag or commit {model.revision or 'main'}.")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, model, token)
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.FileMetadataError)) and error.__cause__ is not None:
        return None
    if isinstance(error, (errors.FileMetadataError, json.JSONDecodeError)):
        return Unreachable(
            f"{endpoint()} does not answer as a hub does. Is HF_ENDPOINT right, and no login page or proxy between?"
        )
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return Corrupt(
            f"A file of {model.repository} came with another size than the hub says; it was not kept. "
            "Try again; if it comes back, the server or a proxy changes files."
        )
    kind = type(error)
    if kind.__name__ == "ProxyError":
        return Unreachable(f"The proxy does not let {endpoint()} through ({first_line(error)}). Check HTTPS_PROXY.")
    if kind.__module__.split(".")[0] in ("httpx", "httpx2", "requests") or isinstance(
        error, (ConnectionError, TimeoutError)
    ):
        reason = "no answer in time" if "Timeout" in kind.__name__ else first_line(error)
        return Unreachable(
            f"Cannot fetch from {endpoint()} ({reason}). Check the network, HTTPS_PROXY and HF_ENDPOINT, "
            "or give weights that are on disk with --model DIR or VIT_MODEL=DIR."
        )
    return None


def _refused(status: int, model: catalog.Model, token: str) -> HubError:
    """Our error for an HTTP status."""
    if status in (401, 403):
        return Denied(f"{page(model)} is not open to you (HTTP {status}): {token}.")
    if status == 404:
        return NotFound(f"There is nothing at {page(model)}. Check the name, and HF_ENDPOINT if you set it.")
    if status == 429:
        return Unreachable(f"{endpoint()} asks for fewer requests (HTTP 429). Wait a little, or set HF_TOKEN.")
    return Unreachable(f"{endpoint()} is in trouble (HTTP {status}). Nothing unfinished was kept: try again later.")


def _has_token() -> bool:
    from huggingface_hub import get_token

    try:
        return get_token() is not None
    except OSError:  # the file it is kept in cannot be read
        return False
