"""What the binaries share: one clear line for a wrong use or a fault, and the exit codes."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags

DONE, FAILED, WRONG_USE = 0, 1, 2


class UsageError(ValueError):
    """A flag or argument that cannot be meant; the message says which and the rule."""


def run(main: Callable[[Sequence[str]], int], *expected: type[Exception]) -> None:
    """Runs a binary's `main` and exits: 0 done, 1 found a fault or failed, 2 wrong use.

    Args:
        main: takes the arguments that are not flags, returns the exit code.
        *expected: errors of the work itself, printed as one line without a traceback.
    """

    def parse(argv: Sequence[str]) -> list[str]:
        if any(argument in ("--help", "-help", "-h") for argument in argv):
            app.usage(shorthelp=True, writeto_stdout=True)
            sys.exit(DONE)
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            _fail(str(error), WRONG_USE)

    def guarded(argv: Sequence[str]) -> int:
        try:
            return main(argv[1:])
        except UsageError as error:
            _fail(str(error), WRONG_USE)
        except expected as error:
            _fail(str(error), FAILED)
        except KeyboardInterrupt:
            _fail("stopped", 130)

    app.run(guarded, flags_parser=parse)


def require(name: str, value: str | None) -> str:
    """Returns the value of a flag that must be given.

    Raises:
        UsageError: if it was not.
    """
    if not value:
        raise UsageError(f"--{name} must be given")
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
        [f"{value:,}" if isinstance(value, int) else str(value) for value in row] for row in rows
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        rest = [value.rjust(width) for value, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)
