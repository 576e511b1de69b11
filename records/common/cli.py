"""What the binaries share: parsing, help, one clear line for an error, exit codes, tables.

A binary parses its flags before it imports TensorFlow, which takes three seconds: modules with
flags or options import none of it, and `main` imports what does the work.
"""

import difflib
import io
import os
import re
import shutil
import signal
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from absl import app, flags

from records.common import errors, startup

_Made = TypeVar("_Made")
Groups = Mapping[str, Sequence[str]]

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
_HELP = ("--help", "-help", "-h", "--helpshort")
_MARKDOWN = ("--helpmd",)  # for models.flags_main
_COLUMN = 27  # where the help of a flag begins
# What Keras, PyTorch, timm and argparse users call our flags.
_ALIASES = {
    **{"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "batch": "batch_size"},
    **{"arch": "model", "network": "model", "backbone": "model", "opt": "optimizer"},
    **{"pretrained": "init_from", "weights": "init_from", "amp": "precision", "fp16": "precision"},
    **{"patience": "stop_patience", "early_stopping": "stop_patience", "gpus": "strategy"},
    **{"num_epochs": "epochs", "imgsz": "image_size", "img_size": "image_size"},
    **{"size": "image_size", "dataset": "records", "data": "source", "data_dir": "source"},
    **{"input": "source", "lr_scheduler": "schedule", "scheduler": "schedule"},
    **{"criterion": "loss", "smoothing": "label_smoothing", "ema": "moving_average"},
    **{"gamma": "focal_gamma", "drop": "dropout", "out": "output", "output_dir": "run_dir"},
    **{"save_dir": "run_dir", "logdir": "run_dir", "class_weight": "class_weights"},
    **{
        "jobs": "num_workers",
        "j": "num_workers",
        "random_state": "seed",
        "warmup_epochs": "warmup",
    },
    **{"xla": "jit_compile", "compile": "jit_compile", "mixup": "mixup_alpha"},
    **{"cutmix": "cutmix_alpha", "hflip": "horizontal_flip", "vflip": "vertical_flip"},
}


class UsageError(errors.ConfigError):
    """A flag or argument that cannot be meant; the message says which and the rule."""


def run(
    main: Callable[[Sequence[str]], int],
    *,
    groups: Groups | None = None,
    describe: Callable[[Sequence[str]], tuple[str, Groups]] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    again: str = "start over",
) -> None:
    """Runs a binary's `main` and exits: 0 done, 1 found a fault or failed, 2 wrong use.

    Any DatapipeError, and an OSError, ends in one line without a traceback.

    Args:
        main: takes the arguments that are not flags, returns the exit code.
        groups: names of flags by title, as `--help` shows them; by default all flags of the binary.
        describe: gives the text and the groups of `--help` for a command line; by default the
            docstring of the binary and `groups`.
        elsewhere: what to say of flags that users look for here, by name.
        again: what the same command does after Ctrl-C, "run the same command again to ...".
    """
    interrupt = _Interrupt()
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are not UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def parsed(argv: Sequence[str]) -> list[str]:
        return _begun or _answered(argv, groups, describe, elsewhere)

    def guarded(argv: Sequence[str]) -> int:
        try:
            code = main(argv[1:])
            sys.stdout.flush()
            return code
        except BaseException as error:
            # Native code that is being imported turns the interrupt into errors of its own.
            if interrupt.happened or isinstance(error, KeyboardInterrupt):
                _fail(f"interrupted; run the same command again to {again}", INTERRUPTED)
            return _ended(error)

    app.run(guarded, flags_parser=parsed)


_begun: list[str] = []  # the command line without its flags, once `begin` has parsed it


def begin(name: str, groups: Groups | None = None) -> None:
    """Parses the command line of a binary that imports TensorFlow at its head, before it does.

    Args:
        name: `__name__` of the module; nothing is done where it is not the program.
        groups: as `run` takes them.
    """
    if name == "__main__":
        _Interrupt(at_once=True)
        _begun.extend(_answered(sys.argv, groups))


def _answered(
    argv: Sequence[str],
    groups: Groups | None,
    describe: Callable[[Sequence[str]], tuple[str, Groups]] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> list[str]:
    """Returns a command line without its flags; exits if it asks for help or is wrong."""
    for words, shown in ((_HELP, help_text), (_MARKDOWN, markdown)):
        if any(argument in words for argument in argv):
            _show(shown(*(describe(argv[1:]) if describe else (_document(), groups or _own()))))
    if "--version" in argv:
        _show(f"datapipe {_version()}")
    try:
        return parse(argv, elsewhere=elsewhere)
    except UsageError as error:
        _fail(str(error), WRONG_USE)


def _ended(error: BaseException) -> int:
    """Says what ended a binary, in one line where it is not a fault of ours."""
    if isinstance(error, errors.ConfigError):
        _fail(_as_flag(str(error)), WRONG_USE)
    if isinstance(error, BrokenPipeError):
        return _unread()
    if isinstance(error, errors.DatapipeError | OSError):
        _fail(_said(error), FAILED)
    raise error


class _Interrupt:
    """Remembers that Ctrl-C was pressed, and raises KeyboardInterrupt as Python does.

    Args:
        at_once: end at once with one line, for the time of the imports.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.happened = False
        self._screen = os.dup(2) if at_once else 2  # imports hold the standard error back
        # Ignored, or somebody else's: a job in the background does not listen to Ctrl-C.
        present = signal.getsignal(signal.SIGINT)
        if present in (signal.default_int_handler, startup.end) or isinstance(
            getattr(present, "__self__", None), _Interrupt
        ):
            signal.signal(signal.SIGINT, self._end if at_once else self._raise)

    def _raise(self, *_: Any) -> NoReturn:
        self.happened = True
        raise KeyboardInterrupt

    def _end(self, *_: Any) -> NoReturn:
        os.write(self._screen, f"{_program()}: error: interrupted\n".encode())
        os._exit(INTERRUPTED)  # an import would swallow what is raised here


def parse(
    argv: Sequence[str],
    values: flags.FlagValues = flags.FLAGS,
    *,
    elsewhere: Mapping[str, str] | None = None,
) -> list[str]:
    """Parses a command line; returns what is not a flag, the program's name first.

    Args:
        argv: the program's name and its arguments.
        values: the flags there are.
        elsewhere: as `run` takes it.

    Raises:
        UsageError: for a flag that is unknown, with the nearest there is, or a value that is wrong.
    """
    try:
        return values(argv)
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        if name in (elsewhere or {}):
            raise UsageError((elsewhere or {})[name]) from None
        near = nearest(name, values)
        raise UsageError(f"unknown flag --{name}{near and f'; did you mean --{near}?'}") from None
    except flags.IllegalFlagValueError as error:
        raise UsageError(_wrong_value(str(error), values)) from None
    except flags.Error as error:
        raise UsageError(str(error)) from None


def _wrong_value(message: str, values: flags.FlagValues) -> str:
    """Returns the rule of a flag and the value it got, from absl's message."""
    found = re.match(r"flag --(\w+)=(.*?): ", message, re.DOTALL)
    if not found:
        return message
    name, value = found.groups()
    parser = values[name].parser
    if choices := list(getattr(parser, "enum_values", [])):
        near = difflib.get_close_matches(value, choices, 1, 0.6)
        rule = f"one of {', '.join(choices)}"
        return f"--{name} must be {rule}, got {value!r}" + (
            f"; did you mean {near[0]}?" if near else ""
        )
    kinds = {flags.IntegerParser: "a whole number", flags.FloatParser: "a number"}
    kind = next((kind for cls, kind in kinds.items() if isinstance(parser, cls)), "")
    return f"--{name} must be {kind}, got {value!r}" if kind else message


def nearest(name: str, known: Collection[str]) -> str:
    """Returns the known flag that was probably meant by a name, or an empty string."""
    plain = name.replace("-", "_").lower()
    for meant in (plain, _ALIASES.get(plain, ""), plain.removeprefix("no_")):
        if meant in known:
            return meant
    return next(iter(difflib.get_close_matches(plain, list(known), 1, 0.6)), "")


# --- what --help shows ---


def help_text(document: str, groups: Groups, values: flags.FlagValues = flags.FLAGS) -> str:
    """Returns the text of `--help`: what the binary is for, an example, the flags by group.

    Args:
        document: docstring of the binary.
        groups: names of flags by title; a title that ends in `:` gets the names alone.
        values: the flags.
    """
    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 100))
    lines = [document.strip()]
    for title, names in groups.items():
        lines += ["", title]
        if title.endswith(":"):
            listed = "  ".join(f"--{name}" for name in names)
            lines += textwrap.wrap(listed, width, initial_indent="  ", subsequent_indent="  ")
            continue
        for name in names:
            lines += _flag_lines(values[name], width)
    lines += ["", "--helpfull lists the flags of all libraries too, --flagfile=FILE reads flags."]
    return "\n".join(lines)


def markdown(document: str, groups: Groups, values: flags.FlagValues = flags.FLAGS) -> str:
    """Returns the flags of `--help` as tables in Markdown; arguments as of `help_text`."""
    lines = [document.strip().partition("\n")[0]]
    for title, names in groups.items():
        lines += ["", f"**{title.rstrip(':')}**", "", "| flag and default | |", "|---|---|"]
        for flag, text in (described(values[name]) for name in names):
            text = text.replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| `{flag}` | {text} |")
    return "\n".join(lines)


def described(flag: flags.Flag) -> tuple[str, str]:
    """Returns how a flag is written, with its default, and its help in one line."""
    # absl puts the values of an enum in front, and at the end that a flag may be repeated.
    text = " ".join(re.sub(r"^<[^>]*>: |;\s+repeat this option.*", "", flag.help or "").split())
    choices = getattr(flag.parser, "enum_values", ())
    words = set(re.findall(r"[\w.-]+\w", text.lower()))
    if not words.issuperset(choices):
        text += f" One of: {', '.join(choices)}."
    if flag.boolean:
        return f"--[no]{flag.name}", text + (" On by default." if flag.default else "")
    default = flag.default
    if isinstance(default, list):
        default = ",".join(map(str, default))
    return f"--{flag.name}={'...' if default in (None, '') else default}", text


def _flag_lines(flag: flags.Flag, width: int) -> list[str]:
    left, text = described(flag)
    if len(left) > _COLUMN - 4:  # a long default would push its help off the screen
        head = [f"  {left}"]
        return head + textwrap.wrap(text, width, **_indents(" " * _COLUMN))
    return textwrap.wrap(text, width, **_indents(f"  {left}".ljust(_COLUMN))) or [f"  {left}"]


def _indents(first: str) -> dict[str, Any]:
    return {
        "initial_indent": first,
        "subsequent_indent": " " * _COLUMN,
        "break_on_hyphens": False,
        "break_long_words": False,
    }


def own_flags(module: str, values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Returns the names of the flags that a module defines or adopts, in that order."""
    return [flag.name for flag in values.get_key_flags_for_module(module)]


def _show(text: str) -> NoReturn:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _unread()
    sys.exit(DONE)


def _unread() -> int:
    """Lets what is still to be printed go nowhere: who read our output has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE


def _own() -> Groups:
    return {"Flags": own_flags(sys.argv[0])}


def _document() -> str:
    return sys.modules["__main__"].__doc__ or ""


def _version() -> str:
    """Returns the version of this project, which may be installed or stand in its folder."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        with open(os.path.join(root, "pyproject.toml"), encoding="utf-8") as file:
            return re.findall(r'^version = "(.+)"', file.read(), re.MULTILINE)[0]
    except (OSError, IndexError):
        from importlib import metadata

        return metadata.version("datapipe")


# --- errors ---


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _as_flag(message: str, values: flags.FlagValues = flags.FLAGS) -> str:
    """Returns a message about an option, which begins with its name, as one about its flag."""
    name = re.match(r"\w*", message)
    return f"--{message}" if name and name[0] in values else message


def _program() -> str:
    return sys.argv[0].rsplit("/", 1)[-1]


def _fail(message: str, code: int) -> NoReturn:
    print(f"{_program()}: error: {message}", file=sys.stderr)
    if code == WRONG_USE:
        print("  --help lists the flags", file=sys.stderr)
    sys.exit(code)


# --- checks and values of flags ---


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


def checked(make: Callable[[], _Made], values: flags.FlagValues = flags.FLAGS) -> _Made:
    """Calls `make`; what it finds wrong with the flags is the user's to mend.

    Raises:
        UsageError: in place of a ValueError.
    """
    try:
        return make()
    except errors.DamagedRecordError:  # a ValueError, but about a file
        raise
    except ValueError as error:
        raise UsageError(_as_flag(str(error), values)) from None


def at_least(least: int, *holders: flags.FlagHolder) -> None:
    """Refuses flags whose number is too small."""
    for holder in holders:
        if holder.value < least:
            raise UsageError(f"--{holder.name} must be at least {least}, got {holder.value}")


def one_of(name: str, value: str, choices: Collection[str]) -> str:
    """Returns the value of a flag that must name one of several things.

    Raises:
        UsageError: if there is none of that name, with the choices.
    """
    if value not in choices:
        raise UsageError(f"--{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def no_arguments(arguments: Sequence[str]) -> None:
    """Refuses arguments that are not flags, which are most often a forgotten `--` or `=`."""
    if arguments:
        raise UsageError(f"only flags are understood, got {' '.join(arguments)!r}")


def by_class(name: str, parts: Sequence[str]) -> dict[str, float]:
    """Returns the numbers of a flag `--name=class=number,class=number`, by class name.

    Args:
        name: of the flag.
        parts: its value.

    Raises:
        UsageError: if a part is not of that form, or a class is named twice.
    """
    numbers: dict[str, float] = {}
    for part in parts:
        class_name, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            class_name = ""
        if not class_name:
            raise UsageError(f"--{name} must be class=number,..., got {part!r}")
        if class_name in numbers:
            raise UsageError(f"--{name} must name a class once, got {class_name!r} twice")
        numbers[class_name] = value
    return numbers


def pair(name: str, parts: Sequence[str]) -> tuple[float, float]:
    """Returns the two numbers of a flag `--name=low,high`.

    Raises:
        UsageError: if it is not two numbers.
    """
    try:
        low, high = map(float, parts)
    except ValueError:
        raise UsageError(f"--{name} must be low,high, got {','.join(parts)!r}") from None
    return low, high


def given(names: Iterable[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Returns those of some flags that were given, as arguments in the order of their names."""
    return [
        line
        for name in sorted(names)
        if values[name].present
        for line in values[name].serialize().split("\n")  # a repeated flag comes as several lines
    ]


# --- tables ---


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
