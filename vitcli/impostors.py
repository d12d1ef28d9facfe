"""What is found in place of pictures, weights and settings when a download went wrong."""

from __future__ import annotations

_PAGES = (b"<!doctype html", b"<html", b"<head")


def impostor(head: bytes) -> str | None:
    """What a file that begins with these bytes is instead of data: "a git-lfs pointer", "a web page", or None."""
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return "a web page"
    return None
