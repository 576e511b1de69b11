"""Base classes of the errors that a user can cause and mend."""

import contextlib
from collections.abc import Iterator


class DatapipeError(Exception):
    """An input, folder or run that cannot be used; the message names it and the rule it breaks.

    Binaries print any subclass as one line and exit with code 1; every other exception is a bug and
    keeps its traceback.
    """


class ConfigError(DatapipeError, ValueError):
    """An option that is invalid, or does not fit the data or the machine; binaries exit with 2."""


class DamagedRecordError(DatapipeError, ValueError):
    """A record whose bytes do not agree with its own checksums or with the file's length."""


@contextlib.contextmanager
def config_errors() -> Iterator[None]:
    """Turns a plain ValueError raised in the `with` block into a ConfigError."""
    try:
        yield
    except DatapipeError:  # some are ValueErrors too, but about a file
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
