"""The command line: `ppap STEP PRESET ...`."""

from ppap.cli.app import main as main
