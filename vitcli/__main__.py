"""`python -m vitcli`, the same as `vit`."""

from vitcli.cli import main

if __name__ == "__main__":
    main()
