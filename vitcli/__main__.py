"""The `vit` command, also as `python -m vitcli`."""

import gc
import signal


def main() -> None:
    """Run `vit`. Ctrl-C while it is being imported ends it without Python's own words, with a shell's status 130."""
    # imports make objects, with torch a million, and none of them garbage: looking for some over and over takes a tenth
    # of the time, of `vit --help` as well
    gc.set_threshold(100_000)
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    if before == signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, before)
    from vitcli.cli import main as begin

    signal.signal(signal.SIGINT, before)
    begin()


if __name__ == "__main__":
    main()
