"""The errors a user can put right; the command line prints them as one line and exits with code 2."""

from importlib.util import find_spec


class PPAPError(Exception):
    """Something the user can put right. The message names the file or the key."""


class ConfigError(PPAPError):
    """A preset, or an argument of a command, that cannot be used."""


class DataError(PPAPError):
    """A file that is missing, truncated, or made for another run."""


class NumericalError(PPAPError):
    """NaN or infinity in a loss or a sample."""


def need(package: str, what: str, extra: str) -> None:
    """Raise ConfigError unless a package is installed that `what` takes, and an extra of ours brings."""
    if find_spec(package) is None:
        raise ConfigError(f"{what} needs {package}: pip install 'ppap[{extra}]'")


def reason(error: BaseException) -> str:
    """Say on one line, not a long one, what an exception is."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
