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

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from vitcli.errors import Corrupt, HubError, NotDownloaded, NotFound, UsageError
from vitcli.escaping import listed, short
from vitcli.hub import catalog
from vitcli.hub.client import Expected, ask, cache, command, connected, fetch, offline, page
from vitcli.hub.guard import COMMIT, SHA1, SHA256
from vitcli.hub.repository import KNOWN, LARGEST_INDEX, SETTINGS, WEIGHTS, weight_map
from vitcli.impostors import impostor


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
            f"If it is on the hub, fetch it with: {command(model)}"
        )
    raise NotDownloaded(
        f"The weights of {model.repository} are not in the cache ({cache()}). Fetch them, once, with: {command(model)}"
    )


def resolve(model: str | os.PathLike[str]) -> tuple[str, Path, str | None]:
    """A model as the user names it -> (name, folder or file, revision if it came from the hub).

    Raises UsageError for a path that does not exist, NotDownloaded for weights that are not in the cache.
    """
    name = os.fspath(model)
    # Path's own raise for an unknown user's ~ and for a name that no file can have
    path = Path(os.path.expanduser(name))  # noqa: PTH111
    if os.path.exists(path):  # noqa: PTH110
        return name, path, None
    known = catalog.find(name)
    if known is None:
        raise UsageError(f"{short(name)}: no such file or folder, nor a model's name. {catalog.hint(name)}`vit models` "
                         "lists the known names.")  # fmt: skip
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
    if folder is not None and (check or offline() or _complete(folder)) and _weights(folder):
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
            f"Fetch again with: {command(model)}"
        )
    if offline():
        state = "were wrong, and deleted" if wrong else "are to be fetched again" if force else "are not in the cache"
        raise NotDownloaded(
            f"The weights of {model.repository} {state} ({cache()}), and HF_HUB_OFFLINE forbids fetching. "
            f"Unset it and run: {command(model)}"
        )
    with connected(model, progress):
        snapshot = _fetch(model, force)
    return replace(snapshot, files=tuple(replace(f, replaced=f.replaced or f.name in wrong) for f in snapshot.files))


def _fetch(model: catalog.Model, force: bool) -> Snapshot:
    """Ask the hub what there is, then fetch and verify file after file."""
    commit, listing = ask(model, model.revision or "main")
    folder = _home(model) / "snapshots" / commit
    weights = next((name for name in WEIGHTS if name in listing), None)
    if weights is None:
        raise NotFound(f"{page(model)} holds no weights that vit can read: none of {', '.join(WEIGHTS)}.")

    def fetched(names: Iterable[str]) -> list[File]:
        names = list(names)
        if missing := [name for name in names if name not in listing]:
            raise NotFound(f"{page(model)} lacks {listed(missing)}, which its {weights} names.")
        for name in names:
            if name.endswith(".json") and (listing[name].size or 0) > LARGEST_INDEX:
                raise Corrupt(f"{name} of {page(model)} is too large for what it is: over {LARGEST_INDEX >> 20} MiB.")
        _room(model, [listing[name] for name in names if force or not (folder / name).exists()])
        return [_fetch_file(model, commit, name, listing[name], force) for name in names]

    settings = [name for name in SETTINGS if name in listing]
    files = fetched([*settings, weights])
    if weights.endswith(".index.json"):
        files += fetched(_shards(folder / weights))

    for name in set(SETTINGS) - set(settings):  # noted as the client notes it, so that the next run need not ask
        absent = _home(model) / ".no_exist" / commit / name
        absent.parent.mkdir(parents=True, exist_ok=True)
        absent.touch()
    if model.revision != commit:
        _write(_home(model) / "refs" / (model.revision or "main"), commit)
    return Snapshot(folder, commit, tuple(files))


def _fetch_file(model: catalog.Model, commit: str, name: str, expected: Expected, force: bool) -> File:
    """One file, verified. What lay in the cache and is wrong is replaced; what comes wrong is not kept: Corrupt."""
    blob = _home(model) / "blobs" / str(expected.digest)
    kept = not force and ((_home(model) / "snapshots" / commit / name).exists() or blob.exists())
    path = fetch(model, commit, name, expected, force)
    try:
        return _verify(path, name, expected, fetched=not kept)
    except Corrupt:
        _remove(path)
        if not kept or blob.exists():
            raise
    return replace(_fetch_file(model, commit, name, expected, force), replaced=True)


def _model(name: str, revision: str | None) -> catalog.Model:
    whole = f"{name}@{revision}" if revision else name
    model = catalog.find(whole)
    if model is None:
        raise NotFound(
            f"No model is called {short(whole)}. {catalog.hint(name)}`vit models` lists the names; "
            "others are org/name[@revision]."
        )
    return model


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
    """Whether nothing is left to fetch: each settings file that matters is there, or known not to exist."""
    absent = folder.parent.parent / ".no_exist" / folder.name
    return all((folder / name).is_file() or (absent / name).exists() for name in KNOWN)


def _shards(index: Path) -> tuple[str, ...]:
    """The files that an index names. Raises Corrupt."""
    try:
        return tuple(sorted(set(weight_map(index).values())))
    except ValueError as error:
        raise Corrupt(f"{index} is not an index of weights: {error}.") from None


def _checked(model: catalog.Model, folder: Path) -> dict[str, File | None]:
    """Every file of a snapshot that matters; None for one whose bytes are wrong."""
    names = [*(name for name in SETTINGS if (folder / name).is_file()), *_weights(folder)]
    expected = {name: Expected(digest=blob_name(folder / name)) for name in names}
    if any(e.digest is None for e in expected.values()) and not offline():
        with connected(model, progress=False):  # a cache of copies instead of links: only the hub knows
            _, expected = ask(model, folder.name)

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
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        actual: str | None = None
        if SHA256.fullmatch(expected.digest or ""):
            actual = sha256
        elif SHA1.fullmatch(expected.digest or ""):
            file.seek(0)
            blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            actual = hashlib.file_digest(file, lambda: blob).hexdigest()
    if what := impostor(head):
        raise Corrupt(f"The hub sent {what} in place of {name}; it was not kept. Is HF_ENDPOINT right?")
    if expected.size is not None and size != expected.size:
        raise Corrupt(
            f"{name} came with {size:,} bytes where the hub says {expected.size:,}; it was not kept. "
            "Try again; if it comes back, the server or a proxy changes files."
        )
    if actual is not None and actual != expected.digest:
        raise Corrupt(
            f"{name} came with hash {actual} where the hub says {expected.digest}; it was not kept. "
            "Try again; if it comes back, the server or a proxy changes files."
        )
    return File(name, size, sha256, verified=actual is not None, fetched=fetched)


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
