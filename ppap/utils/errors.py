"""The errors a user can cause; the command line prints them as one line and exits with code 2."""


class PPAPError(Exception):
    """Something the user can put right. The message names the file or the key."""


class ConfigError(PPAPError):
    """A preset, or an argument of a command, that cannot be used."""


class ModelError(ConfigError):
    """A vision model that cannot be built, or does not answer as a guide should.

    Raised `from` the model's own exception, if it has one: the command line keeps its traceback in a log,
    and names it.
    """


class UserCodeError(ConfigError):
    """Code of the user's own, but for a model, that fails, or is not what it should be.

    Raised `from` the code's own exception, if it has one, as ModelError is.
    """


class DataError(PPAPError):
    """A file that is missing, truncated, tampered with, or made for another run."""


class NumericalError(PPAPError):
    """NaN or infinity in a loss or a sample."""


def reason(error: BaseException) -> str:
    """Say on one line, not a long one, what an exception is."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
