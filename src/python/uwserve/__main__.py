"""``python -m uwserve``: the command line of ``uwserve.cli``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
