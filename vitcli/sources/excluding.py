"""What is left out by its name: what `--exclude` says, and by default what systems keep beside people's pictures."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from pathlib import PurePath

from vitcli.errors import UsageError

# Thumbnails, bins and notes of systems, by the name of the file or the folder, in capitals or not.
USUAL = (
    "@eaDir", "#recycle", "#snapshot", "@tmp",  # Synology
    "@Recycle", "@Recently-Snapshot", ".@__thumb", "@__thumb", ".@upload_cache",  # QNAP
    "$RECYCLE.BIN", "RECYCLER", "System Volume Information", "Thumbs.db", "ehthumbs.db", "desktop.ini",  # Windows
    "__MACOSX", ".DS_Store", "._*", ".Trash", ".Trashes", ".Spotlight-V100", ".fseventsd", ".TemporaryItems",  # macOS
    ".thumbnails", ".thumb", ".Trash-*", "lost+found", ".recycle",  # Linux, Android, Samba
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Exclude:
    """Which names are left out: those that a pattern matches, and the USUAL ones.

    A pattern without a slash is that of a name, `*.gif` or `backup`; one with slashes is that of the end of a path,
    `raw/*.jpg`; one that ends with a slash is that of a folder. Raises UsageError for one that matches nothing.
    """

    patterns: tuple[str, ...] = ()
    usual: bool = True

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            if not PurePath(pattern).name:
                raise UsageError(f"--exclude {pattern!r} is no name: give one, as in --exclude 'backup*'.")

    def why(self, path: str, name: str, *, folder: bool) -> str | None:
        """What leaves this file or folder out, "usual" or "excluded"; None if nothing does."""
        if self.patterns and any(fits(path, pattern, folder) for pattern in self.patterns):
            return "excluded"
        return "usual" if self.usual and usual().match(name) else None

    def of_member(self, member: str) -> str | None:
        """The same for a member of an archive and the folders it lies in."""
        if not (self.patterns or self.usual):
            return None
        parts = re.split(r"[/\\]", member)
        found = (
            self.why("/".join(parts[:end]), parts[end - 1], folder=end < len(parts))
            for end in range(1, len(parts) + 1)
            if parts[end - 1]
        )
        return next(filter(None, found), None)


USUAL_ONLY = Exclude()


def fits(path: str, pattern: str, folder: bool, flavour: type[PurePath] = PurePath) -> bool:
    """Whether the end of a path matches a pattern; on Windows without regard to case."""
    if pattern.endswith(("/", os.sep)) and not folder:
        return False
    return flavour(path).match(pattern)


@cache
def usual() -> re.Pattern[str]:
    """What matches the USUAL names, and no others."""
    return re.compile("|".join(map(translate, USUAL)), re.IGNORECASE)
