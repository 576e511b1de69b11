"""Flags made from the fields of a frozen dataclass, and the dataclass made from the flags.

A flag has the type and the default of its field, and as help what the docstring says of it under
`Attributes`, so an option is described once. The idea is that of simple-parsing; absl is kept for
its flag files and for the command lines that users have.
"""

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

from absl import flags

from records.common import cli

flags.disclaim_key_flags()  # the flags belong to the module that asks for them
_Options = TypeVar("_Options")
# A flag, the other one it depends on, and the values of that one with which it has an effect.
Only = tuple[str, str, Collection[str]]


class Fields(Generic[_Options]):
    """The flags of a dataclass.

    Attributes:
        names: of the flags, in the order of the fields.
    """

    def __init__(
        self,
        defaults: _Options,
        values: flags.FlagValues = flags.FLAGS,
        *,
        names: Mapping[str, str] | None = None,
        choices: Mapping[str, Sequence[str]] | None = None,
        helps: Mapping[str, str] | None = None,
        skip: Collection[str] = (),
        only: Sequence[Only] = (),
        unset: bool = False,
    ):
        """Defines the flags.

        Args:
            defaults: options with every field at its default; a field that is a mapping, a tuple
                or None by default needs its type annotated.
            values: where to define them.
            names: of flags that are not named as their field is.
            choices: the values that a field of text may have.
            helps: help texts in the place of the docstring's.
            skip: fields without a flag.
            only: flags that have an effect only where another has certain values.
            unset: let a flag that is not given be None, which leaves the `base` of `read` as it is.
        """
        self._defaults, self._values, self._only = defaults, values, only
        documented = {**attributes(type(defaults)), **(helps or {})}
        hints = typing.get_type_hints(type(defaults))
        self._flags: dict[str, tuple[str, Callable[[str, Any], Any]]] = {}
        for field in dataclasses.fields(defaults):  # type: ignore[arg-type]
            if field.name in skip:
                continue
            name = (names or {}).get(field.name, field.name)
            default = None if unset else getattr(defaults, field.name)
            text = _sentence(documented[field.name]) + self._dependence(name)
            options = (choices or {}).get(field.name)
            converted = _define(name, hints[field.name], default, text, options, values)
            self._flags[field.name] = name, converted
        self.names = [name for name, _ in self._flags.values()]

    def given(self) -> list[str]:
        """Returns the names of the flags that were given."""
        return [name for name in self.names if self._values[name].present]

    def read(self, base: _Options | None = None, **more: Any) -> _Options:
        """Returns the options that the flags say.

        Args:
            base: what a flag without a value stands for; the defaults if left out.
            **more: fields that have no flag, or another value than their flag says.

        Raises:
            UsageError: if a value is invalid, or a flag was given that has no effect.
        """
        self.check()
        found = {
            field: convert(name, self._values[name].value)
            for field, (name, convert) in self._flags.items()
            if self._values[name].value is not None
        }
        made = base if base is not None else self._defaults
        return cli.checked(
            lambda: dataclasses.replace(made, **{**found, **more}),  # type: ignore[type-var]
            self._values,
        )

    def check(self) -> None:
        """Refuses flags that were given where they have no effect.

        Raises:
            UsageError: with the flag and what it depends on.
        """
        for name, other, wanted in self._only:
            value = self._values[other].value
            if self._values[name].present and value not in wanted:
                raise cli.UsageError(
                    f"--{name} only applies to {_settings(other, wanted)}, got --{other}={value}"
                )

    def _dependence(self, flag: str) -> str:
        return "".join(
            f" Only with {_settings(other, wanted)}."
            for name, other, wanted in self._only
            if name == flag
        )


def attributes(kind: type) -> dict[str, str]:
    """Returns what the docstring of a class says of each name under `Attributes`."""
    _, _, section = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _sentence(text: str) -> str:
    text = text.replace("`", "")
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _settings(name: str, values: Collection[str]) -> str:
    return f"--{name}={' or '.join(values)}"


def _define(
    name: str,
    hint: Any,
    default: Any,
    text: str,
    choices: Sequence[str] | None,
    values: flags.FlagValues,
) -> Callable[[str, Any], Any]:
    """Defines a flag; returns what makes the value of the field from the flag's name and value."""
    if type(None) in typing.get_args(hint):  # such as `float | None`
        hint = typing.get_args(hint)[0]
    if choices is not None:
        flags.DEFINE_enum(name, default, list(choices), text, flag_values=values)
        return lambda _, value: value
    plain = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    if hint in plain:
        plain[hint](name, default, text, flag_values=values)
        return lambda _, value: value
    flags.DEFINE_list(name, default if default is None else list(default), text, flag_values=values)
    if typing.get_origin(hint) is not tuple:
        return cli.by_class
    return cli.pair if float in typing.get_args(hint) else lambda _, value: tuple(value)
