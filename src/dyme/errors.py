"""One class per boundary. Each is also the standard-library error that a caller would expect; messages say what to do next."""

from __future__ import annotations


class DymeError(Exception):
    """Base of all errors that a user can cause and mend; the command line prints one line and exits with status 2."""


class ConfigError(DymeError, ValueError):
    """A recipe or an override is wrong."""


class DataError(DymeError, ValueError):
    """A data set, a row or an image is wrong."""


class ModelError(DymeError, OSError):
    """A checkpoint cannot be loaded or used."""


class RunError(DymeError, OSError):
    """A run folder cannot be used as asked."""


class SupervisionError(DymeError, RuntimeError):
    """A helper (checker, refiner, extractor of facts) did not answer, or not usably; the group that it was for stays unsupervised."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        """`passing`: the same question may be answered later, as by a server that is down now."""
        super().__init__(message)
        self.passing = passing


LONGEST = 80
"""Characters of a value that a message quotes."""


def quoted(value: object, longest: int = LONGEST) -> str:
    """`value` as a message quotes it, its middle left out where it is long: a picture in base64 has tens of thousands of characters."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 4 :]} ({len(text) - 2:,} characters)"
