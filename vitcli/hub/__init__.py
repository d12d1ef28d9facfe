"""Weights from the hub: fetched once through `huggingface_hub`, verified, and found again without the network.

The cache is the client's own, so that what other programs have fetched is found too. Its documented layout:

    CACHE/models--ORG--NAME/refs/main                        the commit that a branch stood at
                            snapshots/COMMIT/config.json     links into blobs/
                            blobs/HASH                       SHA-256 of large files, git's SHA-1 of small ones
    CACHE = HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub

Nothing that a server says becomes a path or a size before it is checked: see `guard`.

A blob's name says what it must hold: that is how files are verified without asking anybody. `refs` is written last, so
a branch never leads to a snapshot that is half there.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vitcli.errors import Corrupt, Denied, HubError, NotDownloaded, NotFound, Unreachable, UsageError
from vitcli.escaping import listed, short
from vitcli.hub import catalog, guard
from vitcli.hub.guard import COMMIT as COMMIT
from vitcli.hub.guard import SHA1 as SHA1
from vitcli.hub.guard import SHA256 as SHA256
from vitcli.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

SETTINGS = ("config.json", "preprocessor_config.json")
# The first of these that a repository has is what is fetched; an index names the shards that belong to it.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

CHUNK = 1 << 20  # bytes read at once
LARGEST_INDEX = 64 << 20  # bytes of JSON that are parsed
LARGEST_LISTING = 32 << 20  # bytes of what the hub says of a repository: 100,000 files
LARGEST_UNANNOUNCED = 8 << 30  # bytes of a file of which the hub gives no size
LISTING_TIME = 45.0  # seconds for the whole listing, with redirects and retries
FILE_TIME = 300.0  # seconds for a file, and more for what arrives:
SLOWEST = 4096.0  # bytes a second
LONGEST_NAME = 255  # bytes of a file's name, which is what file systems take


@dataclass(frozen=True)
class File:
    """A file of a snapshot. `verified` says that its SHA-256 (git's SHA-1 if small) is the one the hub gives."""

    name: str
    size: int  # bytes
    sha256: str
    verified: bool
    fetched: bool = False  # in this run
    replaced: bool = False  # because what was in the cache was wrong


@dataclass(frozen=True)
class Snapshot:
    """A model in the cache: its folder, the hub's commit, its files."""

    path: Path
    revision: str
    files: tuple[File, ...]


@dataclass(frozen=True)
class Expected:
    """What the hub says of a file; None where it does not say."""

    size: int | None = None
    digest: str | None = None  # SHA-256 of the file, or git's SHA-1


def cache() -> Path:
    """The folder of the hub's cache, chosen by the same variables as the client's."""
    environ = os.environ
    home = environ.get("HF_HOME", os.path.join(environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))  # noqa: PTH118
    hub = os.path.join(_expanded(home), "hub")  # noqa: PTH118
    return Path(_expanded(environ.get("HF_HUB_CACHE", environ.get("HUGGINGFACE_HUB_CACHE", hub))))


def locate(repository: str, revision: str | None = None) -> Path:
    """The folder of a model in the cache, found without the network.

    `repository` is a name as `catalog.find` takes it; `revision` a branch, tag or commit, by default the catalog's
    or the branch `main`. Raises NotDownloaded, NotFound for what cannot be a name.
    """
    model = _model(repository, revision)
    folder = _snapshot(model)
    if folder is not None and _weights(folder):
        return folder
    if model.size is None:  # not in the catalog: perhaps a path that was mistyped
        raise NotDownloaded(
            f"{repository} is neither a file or folder nor a model in the cache ({cache()}). "
            f"If it is on the hub, fetch it with: {_command(model)}"
        )
    raise NotDownloaded(
        f"The weights of {model.repository} are not in the cache ({cache()}). Fetch them, once, with: {_command(model)}"
    )


def resolve(model: str | os.PathLike[str]) -> tuple[str, Path, str | None]:
    """A model as the user names it -> (name, folder or file, revision if it came from the hub).

    Raises UsageError for a path that does not exist, NotDownloaded for weights that are not in the cache.
    """
    name = os.fspath(model)
    path = Path(name).expanduser()
    if path.exists():
        return name, path, None
    known = catalog.find(name)
    if known is None:
        raise UsageError(f"{name}: no such file or folder, nor a model's name. `vit models` lists the known names.")
    path = locate(known.repository, known.revision)
    return name, path, path.name


def origin(path: Path) -> tuple[str, str] | None:
    """Repository and commit of a folder in a hub's cache, or of a file in one; None for other places."""
    folder = (path if path.is_dir() else path.parent).absolute()
    home = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not COMMIT.fullmatch(folder.name) or not home.startswith("models--"):
        return None
    return home.removeprefix("models--").replace("--", "/", 1), folder.name


def download(
    repository: str = catalog.DEFAULT,
    revision: str | None = None,
    *,
    force: bool = False,
    check: bool = False,
    progress: bool = True,
) -> Snapshot:
    """Fetch a model into the cache and verify it; what is there already is only verified, without the network.

    Only what `vit` needs is fetched: settings and one set of weights. A file whose bytes are wrong is deleted and
    fetched again. `force` fetches everything again; `check` fetches and deletes nothing. `progress` shows the client's
    own bar, on a terminal.

    Raises NotDownloaded (nothing there, and `check` or HF_HUB_OFFLINE), NotFound, Denied, Unreachable, Corrupt, and
    HubError when the cache cannot be written.
    """
    model = _model(repository, revision)
    if check:
        locate(model.repository, model.revision)
    folder = None if force else _snapshot(model)
    wrong: set[str] = set()
    if folder is not None and (check or _offline() or _complete(folder)) and _weights(folder):
        try:
            files = _checked(model, folder)
            wrong = {name for name, file in files.items() if file is None}
            for name in wrong if not check else ():
                _remove(folder / name)
        except OSError as error:
            raise HubError(f"{folder} can be neither verified nor repaired: {error}.") from None
        if not wrong:
            return Snapshot(folder, folder.name, tuple(f for f in files.values() if f is not None))
    if wrong and check:
        raise Corrupt(
            f"{' and '.join(sorted(wrong))} in {folder}: the bytes are not what the hub says they are. "
            f"Fetch again with: {_command(model)}"
        )
    if _offline():
        state = "were wrong, and deleted" if wrong else "are to be fetched again" if force else "are not in the cache"
        raise NotDownloaded(
            f"The weights of {model.repository} {state} ({cache()}), and HF_HUB_OFFLINE forbids fetching. "
            f"Unset it and run: {_command(model)}"
        )
    with _client(model, progress):
        snapshot = _fetch(model, force)
    return replace(snapshot, files=tuple(replace(f, replaced=f.replaced or f.name in wrong) for f in snapshot.files))


def _fetch(model: catalog.Model, force: bool) -> Snapshot:
    """Ask the hub what there is, then fetch and verify file after file."""
    info = _ask(model, model.revision or "main")
    commit, listing = str(info.sha), _listing(info)
    folder = _home(model) / "snapshots" / commit
    weights = next((name for name in WEIGHTS if name in listing), None)
    if weights is None:
        raise NotFound(f"{_page(model)} holds no weights that vit can read: none of {', '.join(WEIGHTS)}.")

    def fetch(names: Iterable[str]) -> list[File]:
        names = list(names)
        if missing := [name for name in names if name not in listing]:
            raise NotFound(f"{_page(model)} lacks {listed(missing)}, which its {weights} names.")
        for name in names:
            if name.endswith(".json") and (listing[name].size or 0) > LARGEST_INDEX:
                raise Corrupt(f"{name} of {_page(model)} is too large for what it is: over {LARGEST_INDEX >> 20} MiB.")
        _room(model, [listing[name] for name in names if force or not (folder / name).exists()])
        return [_fetch_file(model, commit, name, listing[name], force) for name in names]

    settings = [name for name in SETTINGS if name in listing]
    files = fetch([*settings, weights])
    if weights.endswith(".index.json"):
        files += fetch(_shards(folder / weights))

    for name in set(SETTINGS) - set(settings):  # noted as the client notes it, so that the next run need not ask
        absent = _home(model) / ".no_exist" / commit / name
        absent.parent.mkdir(parents=True, exist_ok=True)
        absent.touch()
    if model.revision != commit:
        _write(_home(model) / "refs" / (model.revision or "main"), commit)
    return Snapshot(folder, commit, tuple(files))


def _fetch_file(model: catalog.Model, commit: str, name: str, expected: Expected, force: bool) -> File:
    """One file, verified. What lay in the cache and is wrong is replaced; what comes wrong is not kept: Corrupt."""
    from huggingface_hub import hf_hub_download

    blob = _home(model) / "blobs" / str(expected.digest)
    kept = not force and ((_home(model) / "snapshots" / commit / name).exists() or blob.exists())
    unannounced = LARGEST_INDEX if name.endswith(".json") else LARGEST_UNANNOUNCED
    watch = guard.Guard(
        f"{name} of {model.repository}", unannounced if expected.size is None else expected.size, FILE_TIME,
        SLOWEST, commit, expected.digest, expected.size,
    )  # fmt: skip
    path = Path(
        watch.run(
            lambda: hf_hub_download(
                model.repository,
                name,
                revision=commit,
                cache_dir=cache(),
                endpoint=_endpoint(),
                force_download=force,
                library_name="vitcli",
                library_version=__version__,
            )
        )
    )
    try:
        return _verify(path, name, expected, fetched=not kept)
    except Corrupt:
        _remove(path)
        if not kept or blob.exists():
            raise
    return replace(_fetch_file(model, commit, name, expected, force), replaced=True)


def _ask(model: catalog.Model, revision: str) -> ModelInfo:
    """What the hub says of a repository at a revision: commit, and the name, size and hash of every file."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint(), library_name="vitcli", library_version=__version__)
    # without one the client would wait for ever on a server that accepts and then says nothing
    timeout = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or 10)
    watch = guard.Guard(f"What {_endpoint()} says of {model.repository}", LARGEST_LISTING, LISTING_TIME)
    try:
        info = watch.run(
            lambda: api.model_info(model.repository, revision=revision, files_metadata=True, timeout=timeout)
        )
    except (TypeError, KeyError, AttributeError):  # JSON, but not what a hub says
        info = None
    if info is None or not COMMIT.fullmatch(str(info.sha)):
        raise Unreachable(f"{_endpoint()} does not answer as a hub does: it names no commit. Is HF_ENDPOINT right?")
    if COMMIT.fullmatch(revision) and info.sha != revision:
        raise Corrupt(f"{_page(model)}: the server answers with another commit than was asked for.")
    return info


def _listing(info: ModelInfo) -> dict[str, Expected]:
    """Name of every file -> what it must be. Raises Unreachable for sizes and hashes that are none."""
    listing = {}
    for file in info.siblings or ():
        size, digest = (file.lfs.size, file.lfs.sha256) if file.lfs else (file.size, file.blob_id)
        pattern = SHA256 if file.lfs else SHA1
        sized = size is None or (type(size) is int and size >= 0)
        hashed = digest is None or (isinstance(digest, str) and pattern.fullmatch(digest))
        if not (isinstance(file.rfilename, str) and sized and hashed):
            raise Unreachable(
                f"{_endpoint()} does not answer as a hub does: it gives {short(str(file.rfilename))} "
                "a size or a hash that is none. Is HF_ENDPOINT right?"
            )
        listing[file.rfilename] = Expected(size, digest)
    return listing


def _model(name: str, revision: str | None) -> catalog.Model:
    model = catalog.find(f"{name}@{revision}" if revision else name)
    if model is None:
        near = catalog.close(name)
        hint = f"Did you mean {near}? " if near else ""
        raise NotFound(
            f"No model is called {name}. {hint}`vit models` lists the names; others are org/name[@revision]."
        )
    return model


def _command(model: catalog.Model) -> str:
    return f"vit download-weights {model.address}"


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def _page(model: catalog.Model) -> str:
    return f"{_endpoint()}/{model.repository}" + (f" at {model.revision}" if model.revision else "")


def _offline() -> bool:
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111


def _home(model: catalog.Model) -> Path:
    return cache() / f"models--{model.repository.replace('/', '--')}"


def _snapshot(model: catalog.Model) -> Path | None:
    """The folder of the revision, if there is one; it may lack files."""
    commit = model.revision or "main"
    if not COMMIT.fullmatch(commit):
        try:
            commit = (_home(model) / "refs" / commit).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None
        if not COMMIT.fullmatch(commit):
            return None
    folder = _home(model) / "snapshots" / commit
    return folder if folder.is_dir() else None


def _weights(folder: Path) -> tuple[str, ...]:
    """The files of the one set of weights that is wholly there: a single file, or an index and all its shards."""
    for name in WEIGHTS:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return (name,)
        try:
            shards = _shards(folder / name)
        except Corrupt:
            return (name,)  # verifying it, or loading it, says what is wrong
        if all((folder / shard).is_file() for shard in shards):
            return (name, *shards)
    return ()


def _complete(folder: Path) -> bool:
    """Whether nothing is left to fetch: each settings file is there, or known not to exist."""
    absent = folder.parent.parent / ".no_exist" / folder.name
    return all((folder / name).is_file() or (absent / name).exists() for name in SETTINGS)


def _shards(index: Path) -> tuple[str, ...]:
    """The files that an index names. Raises Corrupt."""
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError("too large")
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        if not names or any(PurePosixPath(n).name != n or n in ("", ".", "..") or "\\" in n for n in names):
            raise ValueError("file names that leave the folder")
        if any(not n.isprintable() or len(n.encode()) > LONGEST_NAME for n in names):
            raise ValueError("file names that no repository has")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Corrupt(f"{index} is not an index of weights ({error}).") from None
    return tuple(names)


def _checked(model: catalog.Model, folder: Path) -> dict[str, File | None]:
    """Every file of a snapshot that matters; None for one whose bytes are wrong."""
    names = [*(name for name in SETTINGS if (folder / name).is_file()), *_weights(folder)]
    expected = {name: Expected(digest=blob_name(folder / name)) for name in names}
    if any(e.digest is None for e in expected.values()) and not _offline():
        with _client(model, progress=False):  # a cache of copies instead of links: only the hub knows
            expected = _listing(_ask(model, folder.name))

    def checked(name: str) -> File | None:
        try:
            return _verify(folder / name, name, expected.get(name, Expected()))
        except Corrupt:
            return None

    return {name: checked(name) for name in names}


def blob_name(path: Path) -> str | None:
    """The hash that the cache keeps a file under; None where it keeps copies instead of links."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if SHA256.fullmatch(name) or SHA1.fullmatch(name) else None


def _verify(path: Path, name: str, expected: Expected, fetched: bool = False) -> File:
    """Read a file once and compare it with what the hub says. Raises Corrupt."""
    import hashlib

    size = path.stat().st_size
    digest = expected.digest or ""
    sha256, sha1 = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        while chunk := file.read(CHUNK):
            sha256.update(chunk)
            if SHA1.fullmatch(digest):
                sha1.update(chunk)
    if what := _impostor(head):
        raise Corrupt(f"The hub sent {what} in place of {name}; it was not kept. Is HF_ENDPOINT right?")
    if expected.size is not None and size != expected.size:
        raise Corrupt(
            f"{name} came with {size:,} bytes where the hub says {expected.size:,}; it was not kept. "
            "Try again; if it comes back, the server or a proxy changes files."
        )
    actual = {40: sha1.hexdigest(), 64: sha256.hexdigest()}.get(len(digest))
    if actual is not None and actual != digest:
        raise Corrupt(
            f"{name} came with hash {actual} where the hub says {digest}; it was not kept. "
            "Try again; if it comes back, the server or a proxy changes files."
        )
    return File(name, size, sha256.hexdigest(), verified=actual is not None, fetched=fetched)


def _impostor(head: bytes) -> str | None:
    """What begins like this, if it is one of the two things that are found in place of weights and settings."""
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return None


def _remove(path: Path) -> None:
    """Delete a file of the cache: the link and whatever it leads to, so that nothing trusts those bytes again."""
    root = cache().resolve()
    while True:
        target = path.parent / path.readlink() if path.is_symlink() else None
        path.unlink(missing_ok=True)
        if target is None or root not in target.parent.resolve().parents:
            return
        path = target


def _room(model: catalog.Model, files: list[Expected]) -> None:
    """Raise HubError now if the files cannot fit, instead of after half of them."""
    import shutil

    place = next(p for p in (cache(), *cache().absolute().parents) if p.exists())
    need, free = sum(f.size or 0 for f in files), shutil.disk_usage(place).free
    if need > free:
        raise HubError(
            f"{model.repository} needs {need / 1e6:,.0f} MB and {place} has {free / 1e6:,.0f} MB left. "
            "Free some space, or set HF_HOME to a folder that has it."
        )


def _write(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def _client(model: catalog.Model, progress: bool) -> Iterator[None]:
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
            f"The storage behind {_endpoint()} does not deliver {model.repository} ({_first_line(error)}). "
            "Try again, or go round it with HF_HUB_DISABLE_XET=1."
        )
    found = found or next(filter(None, (_translated(e, model) for e in chain)), None)
    return found or HubError(f"{model.repository} could not be fetched: {_first_line(error)}")


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
        return NotDownloaded(f"HF_HUB_OFFLINE forbids fetching {model.repository}. Unset it and run: {_command(model)}")
    if isinstance(error, errors.GatedRepoError):
        return Denied(f"{_page(model)} is gated: accept its conditions there, and {token}.")
    if isinstance(error, errors.RepositoryNotFoundError):
        near = catalog.close(model.name)
        hint = f" Did you mean {near}?" if near and near != model.name else ""
        return NotFound(f"There is no model {_page(model)}, or it is private: {token}.{hint}")
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{_endpoint()}/{model.repository} has no branch, tag or commit {model.revision or 'main'}.")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, model, token)
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.FileMetadataError)) and error.__cause__ is not None:
        return None
    if isinstance(error, (errors.FileMetadataError, json.JSONDecodeError)):
        return Unreachable(
            f"{_endpoint()} does not answer as a hub does. Is HF_ENDPOINT right, and no login page or proxy between?"
        )
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return Corrupt(
            f"A file of {model.repository} came with another size than the hub says; it was not kept. "
            "Try again; if it comes back, the server or a proxy changes files."
        )
    kind = type(error)
    if kind.__name__ == "ProxyError":
        return Unreachable(f"The proxy does not let {_endpoint()} through ({_first_line(error)}). Check HTTPS_PROXY.")
    if kind.__module__.split(".")[0] in ("httpx", "httpx2", "requests") or isinstance(
        error, (ConnectionError, TimeoutError)
    ):
        reason = "no answer in time" if "Timeout" in kind.__name__ else _first_line(error)
        return Unreachable(
            f"Cannot fetch from {_endpoint()} ({reason}). Check the network, HTTPS_PROXY and HF_ENDPOINT, "
            "or give weights that are on disk with --model DIR or VIT_MODEL=DIR."
        )
    return None


def _refused(status: int, model: catalog.Model, token: str) -> HubError:
    """Our error for an HTTP status."""
    if status in (401, 403):
        return Denied(f"{_page(model)} is not open to you (HTTP {status}): {token}.")
    if status == 404:
        return NotFound(f"There is nothing at {_page(model)}. Check the name, and HF_ENDPOINT if you set it.")
    if status == 429:
        return Unreachable(f"{_endpoint()} asks for fewer requests (HTTP 429). Wait a little, or set HF_TOKEN.")
    return Unreachable(f"{_endpoint()} is in trouble (HTTP {status}). Nothing unfinished was kept: try again later.")


def _has_token() -> bool:
    from huggingface_hub import get_token

    try:
        return get_token() is not None
    except OSError:  # the file it is kept in cannot be read
        return False


def _first_line(error: BaseException) -> str:
    return short((str(error).strip().splitlines() or [type(error).__name__])[0], 300)
