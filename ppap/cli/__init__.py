"""The command line: `ppap STEP PRESET ...`."""

from ppap.cli import config, experts, guide, results, steps  # noqa: F401, they bring the app its commands
from ppap.cli.app import main as main
