"""`vit labels`: what a model can say, and the tree around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitcli.cli import console, options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text
    from rich.tree import Tree as RichTree

    from vitcli.labels import Labels
    from vitcli.terms import Term, Terms

TREES, BRANCHES = 6, 12  # trees that are drawn, and branches of a term in one
OTHERS = 20  # other terms that are named


def labels(
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="A class, a synonym, a broader term, a WordNet id or an index."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            envvar="VIT_MODEL",
            autocompletion=options.model_names,
            metavar="NAME|DIR|FILE",
            help="The classes of this model; without it those of ImageNet-1k.",
        ),
    ] = None,
    labels: options.Labels = None,
    form: options.Format = "table",
) -> None:
    """Search classes, synonyms and broader terms, and show the tree around them.

    What it finds by a whole name is drawn; what only holds the word is named below.
    Without a query, the classes by index. `vit classify --only` takes any of it.

    \b
    vit labels crane
    vit labels "sports car" --format json
    vit labels --model my-vit/
    """
    from vitcli.errors import VitError
    from vitcli.escaping import short
    from vitcli.terms import Terms

    terms = Terms(chosen(model, labels))
    if query is None:
        listed(terms, form)
        return
    exact = terms.exact(query)
    others = [term for term in terms.like(query) if term not in exact]
    if not exact and not others:
        near = terms.near(query)
        meant = f": did you mean {' or '.join(near)}?" if near else "; `vit labels` without a query lists all classes."
        raise VitError(f"There is no class or broader term {short(repr(query))}{meant}")
    if form == "json":
        found = [(term, True) for term in exact] + [(term, False) for term in others]
        console.document({"query": query, "found": [{**record(terms, t), "exact": whole} for t, whole in found]})
        return
    out = console.out()
    seen, named = (exact, others) if exact else (others[:TREES], others[TREES:])
    for term in seen:
        out.print(*drawn(terms, term), "", sep="\n")
    if named:
        more = f" and {len(named) - OTHERS} more" if len(named) > OTHERS else ""
        out.print(f"{'Also' if exact else 'Others'}: {', '.join(map(shown, named[:OTHERS]))}{more}.", style="dim")


def chosen(model: str | None, names: Path | None) -> Labels:
    """The classes that are meant. Raises VitError for a model that is not here or cannot be used."""
    from vitcli.labels import Labels

    own = Labels.read(names) if names else None
    if model is None:
        return own or Labels.imagenet1k()
    from vitcli import checkpoints
    from vitcli.hub import resolve

    given: checkpoints.Options = {"labels": own} if own else {}
    return checkpoints.load(resolve(model)[1], **given).labels


def listed(terms: Terms, form: options.Form) -> None:
    """Every class, by index."""
    from vitcli.escaping import printable

    classes = terms.all[: len(terms.labels)]
    if form == "json":
        console.document([record(terms, term) for term in classes])
        return
    width = len(str(len(classes)))
    for term in classes:
        typer.echo(f"{term.index:>{width}}  {term.wnid + '  ' if term.wnid else ''}{printable(term.name)}")


def record(terms: Terms, term: Term) -> dict[str, Any]:
    """A term as JSON-ready values; `parents` and `children` are WordNet ids, `classes` indices at or below it."""
    from vitcli.wordnet import synsets

    known = synsets().get(term.wnid or "")
    return {
        "label": term.name,
        "wnid": term.wnid,
        "index": term.index,
        "names": list(term.names),
        "definition": known.definition if known else None,
        "parents": list(known.parents) if known else [],
        "children": terms.tree.children(known.wnid) if known else [],
        "classes": list(term.classes),
    }


def drawn(terms: Terms, term: Term) -> Iterator[Text | RichTree]:
    """What a term is, and the tree of all that is broader, by every way, and of what is right below it."""
    from rich.text import Text
    from rich.tree import Tree as RichTree

    from vitcli.escaping import printable
    from vitcli.wordnet import ROOT, ancestors, synsets

    names = list(dict.fromkeys([term.name, *(name for name in term.names if name not in term.name.split(", "))]))
    what = f"  {size(term.index, len(term.classes))}{f', {term.wnid}' if term.wnid else ''}"
    yield Text.assemble((printable(", ".join(names)), "bold green"), (what, "dim"))
    known = synsets().get(term.wnid or "")
    if known is None or known.wnid not in terms.tree.classes:
        return
    yield Text(known.definition, "italic")
    ways, done = ancestors(known.wnid), False

    def grow(wnid: str) -> RichTree:
        """From here down to the term; what lies between two forks is one line."""
        nonlocal done
        line = [wnid]
        while line[-1] != known.wnid and len(below := [w for w in terms.tree.children(line[-1]) if w in ways]) == 1:
            line += below
        text, here = Text(" › ").join(Text(synsets()[w].name) for w in line), line[-1] == known.wnid
        if here:
            text.stylize("bold green", len(text) - len(known.name))
        branch = RichTree(text.append("" if here else f"  {size(None, len(terms.tree.classes[line[-1]]))}", "dim"))
        if not here:
            for way in below:
                branch.children.append(grow(way))
        elif not done:  # by another way it is the same
            done = True
            children = terms.tree.children(known.wnid)
            for child in children[:BRANCHES]:
                branch.add(narrower(terms, child))
            if len(children) > BRANCHES:
                branch.add(Text(f"... and {len(children) - BRANCHES} more", "dim"))
        return branch

    yield grow(ROOT)


def narrower(terms: Terms, wnid: str) -> Text:
    """A term below another one."""
    from rich.text import Text

    from vitcli.escaping import printable
    from vitcli.wordnet import synsets

    classes = terms.tree.classes[wnid]
    index = int(classes[0]) if len(classes) == 1 and terms.labels.wnids[classes[0]] == wnid else None
    name = synsets()[wnid].name if index is None else terms.labels.names[index]
    return Text.assemble(printable(name), (f"  {size(index, len(classes))}, {wnid}", "dim"))


def size(index: int | None, classes: int) -> str:
    """Which class it is, or how many are below it."""
    return f"class {index}" if index is not None else f"{classes:,} {'class' if classes == 1 else 'classes'}"


def shown(term: Term) -> str:
    """A term in a list."""
    from vitcli.escaping import printable

    return f"{printable(term.name)} ({term.key})"
