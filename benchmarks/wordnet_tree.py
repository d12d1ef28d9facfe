"""vitcli/data/wordnet.tsv, made again of WordNet 3.0: the classes of ImageNet-1k and every term that is broader.

    python benchmarks/wordnet_tree.py /usr/share/wordnet/data.noun      # Debian: apt install wordnet-base

`data.noun` is described in wndb(5WN): a synset a line, its offset (a WordNet id without the n), its words, pointers to
other synsets, of which `@` and `@i` lead to broader ones, and behind a bar its definition with examples.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

from vitcli.labels import Labels

TARGET = Path(__file__).parent.parent / "vitcli" / "data" / "wordnet.tsv"
BROADER = ("@", "@i")


class Synset(NamedTuple):
    """One line of data.noun."""

    words: list[str]
    parents: list[str]
    definition: str


def read(path: Path) -> dict[str, Synset]:
    """Every synset by its WordNet id."""
    found = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith("  "):  # the licence
            continue
        data, _, gloss = line.partition(" | ")
        offset, _, _, count, *rest = data.split()
        words = [word.replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]]
        pointers = rest[2 * int(count, 16) + 1 :][: 4 * int(rest[2 * int(count, 16)])]
        kinds, targets = pointers[::4], pointers[1::4]
        parents = [f"n{target}" for kind, target in zip(kinds, targets, strict=True) if kind in BROADER]
        found[f"n{offset}"] = Synset(words, parents, re.split(r'; "', gloss)[0].strip())
    return found


def closure(wanted: list[str], synsets: dict[str, Synset]) -> list[str]:
    """These and all that is broader, each behind its parents."""
    order: dict[str, None] = {}

    def add(wnid: str) -> None:
        if wnid not in order:
            for parent in synsets[wnid].parents:
                add(parent)
            order[wnid] = None

    for wnid in wanted:
        add(wnid)
    return list(order)


def main() -> None:
    """Write the table and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nouns", type=Path, metavar="data.noun")
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    given = parser.parse_args()
    synsets, classes = read(given.nouns), [wnid for wnid in Labels.imagenet1k().wnids if wnid]
    order = closure(classes, synsets)
    lines = ["wnid\tparents\tnames\tdefinition"]
    for wnid in order:
        words, parents, definition = synsets[wnid]
        names = "" if wnid in classes else ", ".join(words)  # those of the classes are in imagenet1k.tsv
        lines.append("\t".join((wnid, " ".join(parents), names, definition)))
    given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    edges = sum(len(synsets[wnid].parents) for wnid in order)
    print(f"{given.output}: {len(order)} terms, {len(order) - len(classes)} of them broader, {edges} edges")


if __name__ == "__main__":
    main()
