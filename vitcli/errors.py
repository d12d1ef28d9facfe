"""Every error that `vit` raises on purpose. Each says what happened, to which file, and what to do next.

VitError                    caught once, at the edge of the command line; exit status 1 unless it says otherwise
├── UsageError              invalid settings; exit status 2
├── PictureError            one input cannot be classified: becomes a `Failure` row, never the end of a run
├── CheckpointError         a file or folder of weights that cannot be used
│   ├── NotWeights          not a checkpoint at all: HTML page, git-lfs pointer, truncated or unsafe file
│   └── LayoutError         tensors missing, left over or misshapen
├── HubError                weights that cannot be fetched
│   ├── NotDownloaded       not in the cache, and fetching was not asked for
│   ├── Unreachable         no network, no server, or a server that fails
│   ├── NotFound            no such repository, revision or file
│   ├── Denied              private or gated: a token is missing or refused
│   └── Corrupt             the bytes are not what the hub says they are
├── DeviceError             the device or dtype asked for is not available
├── OutOfMemory             the network did not fit; the engine halves its batch before giving up
├── TooManyFiles            the system opens no more files; the run stops, as no input is to blame
├── MissingExtra            a feature whose optional package is not installed
└── OutputError             results that cannot be written
"""

from __future__ import annotations

import errno


class VitError(Exception):
    """Base of the family. `str(error)` is one or two sentences for a person."""

    exit_status = 1


class UsageError(VitError):
    """Invalid settings."""

    exit_status = 2


class PictureError(VitError):
    """One input cannot be classified.

    `reason` is a stable machine-readable word (the `error` field of a row), the message is for a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def unopened(error: OSError | ValueError) -> PictureError:
    """Why the system does not open a file: the one place where its errors become reasons.

    Raises TooManyFiles when that says nothing about the file.
    """
    stop_without_files(error)
    if not isinstance(error, OSError):  # a NUL in the name
        return PictureError("bad_name", "No file can have this name.")
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return PictureError("missing", "There is no such file or folder.")
    if isinstance(error, PermissionError):
        return PictureError("forbidden", "Permission denied: you are not allowed to read it.")
    if error.errno == errno.ELOOP:
        return PictureError("unreadable", "The link leads back to itself.")
    if error.errno == errno.ENAMETOOLONG:
        return PictureError("bad_name", "The name is too long.")
    if error.errno == errno.ENXIO:
        return PictureError("not_a_file", "It is a socket or a device, not a file.")
    return PictureError("unreadable", f"It cannot be read: {error.strerror or error}.")


def stop_without_files(error: BaseException) -> None:
    """Raise TooManyFiles if that is what an error says.

    A row about it would be wrong, and `--resume` would believe it.
    """
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise TooManyFiles(
            "No more files can be opened: allow more with `ulimit -n`, or use fewer --workers. "
            "What was written stays; with -o, --resume continues there."
        ) from None


class CheckpointError(VitError):
    """A file or folder of weights that cannot be used."""


class NotWeights(CheckpointError):
    """Not a checkpoint at all: an HTML page, a git-lfs pointer, a truncated or an unsafe file."""


class LayoutError(CheckpointError):
    """Tensors missing, left over or misshapen; the message names them."""


class HubError(VitError):
    """Weights that cannot be fetched."""


class NotDownloaded(HubError):
    """Not in the cache, and fetching was not asked for."""


class Unreachable(HubError):
    """No network, no server, or a server that fails."""


class NotFound(HubError):
    """No such repository, revision or file."""


class Denied(HubError):
    """Private or gated: a token is missing or refused."""


class Corrupt(HubError):
    """The bytes are not what the hub says they are."""


class DeviceError(VitError):
    """The device or dtype asked for is not available."""


class OutOfMemory(VitError):
    """The network did not fit in memory."""


class TooManyFiles(VitError):
    """The system opens no more files."""


class MissingExtra(VitError):
    """A feature whose optional package is not installed.

    `extra` is the name to put in `pip install 'vitcli[extra]'`.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'vitcli[{extra}]'.")
        self.extra = extra


class OutputError(VitError):
    """Results that cannot be written."""
