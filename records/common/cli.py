"""What the binaries share: one clear line for a wrong use or a fault, and the exit codes."""

import io
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NoReturn, TypeVar

from absl import app, flags

from records.common import errors

_Made = TypeVar("_Made")

DONE, FAILED, WRONG_USE = 0, 1, 2


class UsageError(ValueError):
    """A flag or argument that cannot be meant; the message says which and the rule."""


def run(
    main: Callable[[Sequence[str]], int], *expected: type[Exception], again: str = "starts again"
) -> None:
    """Runs a binary's `main` and exits: 0 done, 1 found a fault or failed, 2 wrong use.

    Args:
        main: takes the arguments that are not flags, returns the exit code.
        *expected: errors of the work itself, printed as one line without a traceback.
        again: what the same command does after it was stopped by Ctrl-C.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        if any(argument in ("--help", "-help", "-h") for argument in argv):
            app.usage(shorthelp=True, writeto_stdout=True)
            sys.exit(DONE)
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            _fail(str(error), WRONG_USE)

    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are not UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    caught: tuple[type[Exception], ...] = (errors.DatapipeError, *expected)

    def guarded(argv: Sequence[str]) -> int:
        try:
            code = main(argv[1:])
            sys.stdout.flush()
            return code
        except UsageError as error:
            _fail(str(error), WRONG_USE)
        except BrokenPipeError:  # who read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        except caught as error:
            _fail(_said(error), FAILED)
        except KeyboardInterrupt:
            _fail(f"stopped; the same command {again}", 130)

    app.run(guarded, flags_parser=parse)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def require(name: str, value: str | None) -> str:
    """Returns the value of a flag that must be given.

    Raises:
        UsageError: if it was not.
    """
    if not value:
        raise UsageError(f"--{name} must be given")
    return value


def require_folder(name: str, value: str | None) -> str:
    """Returns the value of a flag that must name an existing folder.

    Raises:
        UsageError: if it was not given or there is no such folder.
    """
    if not os.path.isdir(require(name, value)):
        raise UsageError(f"--{name} must be an existing folder, got {value!r}")
    return str(value)


def checked(make: Callable[[], _Made]) -> _Made:
    """Calls `make`; what it finds wrong with the flags is the user's to mend.

    Raises:
        UsageError: in place of a ValueError.
    """
    try:
        return make()
    except errors.DamagedRecordError:  # a ValueError, but none of the flags'
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None


def at_least(least: int, *holders: flags.FlagHolder) -> None:
    """Refuses flags whose number is too small."""
    for holder in holders:
        if holder.value < least:
            raise UsageError(f"--{holder.name} must be at least {least}, got {holder.value}")


def one_of(name: str, value: str, choices: Collection[str]) -> str:
    """Returns the value of a flag that must name one of the things there are.

    Raises:
        UsageError: if there is none of that name, with the names there are.
    """
    if value not in choices:
        raise UsageError(f"--{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def no_arguments(arguments: Sequence[str]) -> None:
    """Refuses arguments that are not flags, which are most often a forgotten `--` or `=`."""
    if arguments:
        raise UsageError(f"only flags are understood, got {' '.join(arguments)!r}")


def _fail(message: str, code: int) -> NoReturn:
    name = sys.argv[0].rsplit("/", 1)[-1]
    print(f"{name}: error: {message}", file=sys.stderr)
    if code == WRONG_USE:
        print("  --help lists the flags", file=sys.stderr)
    sys.exit(code)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Returns rows as aligned columns, the first to the left and the rest to the right."""
    cells = [
        [f"{value:,}" if isinstance(value, int) else printable(str(value)) for value in row]
        for row in rows
    ]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        gaps = [" " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)]
        rest = [gap + cell for gap, cell in zip(gaps[1:], row[1:], strict=True)]
        lines.append("  ".join([row[0] + gaps[0], *rest]).rstrip())
    return "\n".join(lines)


def counts_table(class_names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> str:
    """Returns images by class (lines) and split (columns), with totals."""
    rows: list[Sequence[object]] = [("class", *counts, "total")]
    for name, *by_split in zip(class_names, *counts.values(), strict=True):
        rows.append((name, *by_split, sum(by_split)))
    totals = [sum(by_class) for by_class in counts.values()]
    return table([*rows, ("total", *totals, sum(totals))])


def printable(text: str) -> str:
    """Returns text with line ends, control characters and the like written as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _columns(text: str) -> int:
    """Returns how wide a terminal draws a text: Korean and other wide letters take two columns."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
