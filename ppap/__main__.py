"""`python -m ppap`: the command line, for a Python that has ppap but no `ppap` on its path."""

from ppap.cli.app import main

if __name__ == "__main__":
    main()
