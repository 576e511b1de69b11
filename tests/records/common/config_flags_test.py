"""Flags made of a dataclass: types, defaults, help from its docstring, and what has no effect."""

import dataclasses
from collections.abc import Mapping

import pytest
from absl import flags

from records.common import cli, config_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """An example.

    Attributes:
        kind: `plain` or fancy, as
            a second line says
        size: Size, in cm.
        share: Share.
        on: Switch.
        rate: Rate; None is the usual one.
        names: Names.
        ends: Ends.
        weights: Weights.
        inner: without a flag.
    """

    kind: str = "plain"
    size: int = 3
    share: float = 0.5
    on: bool = True
    rate: float | None = None
    names: tuple[str, ...] = ("a", "b")
    ends: tuple[float, float] | None = None
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    inner: object = None

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")


def made(*line, **settings):
    values = flags.FlagValues()
    fields = config_flags.Fields(
        Options(),
        values,
        names={"kind": "the_kind"},
        choices={"kind": ("plain", "fancy")},
        skip=("inner",),
        only=[("size", "the_kind", ("fancy",))],
        **settings,
    )
    cli.parse(["test", *line], values)
    return fields, values


def test_without_flags_the_options_are_the_defaults():
    assert made()[0].read() == Options()


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("--the_kind=fancy --size=7", {"kind": "fancy", "size": 7}),
        ("--share=0.1 --noon --rate=2", {"share": 0.1, "on": False, "rate": 2.0}),
        ("--names=x,y", {"names": ("x", "y")}),
        ("--ends=1,2", {"ends": (1.0, 2.0)}),
        ("--weights=a=1,b=2", {"weights": {"a": 1.0, "b": 2.0}}),
    ],
)
def test_flags_set_their_fields(line, fields):
    assert made(*line.split())[0].read() == Options(**fields)


def test_help_is_what_the_docstring_says_of_the_field():
    _, values = made()
    assert cli.described(values["size"]) == ("--size=3", "Size, in cm. Only with --the_kind=fancy.")
    said = "Plain or fancy, as a second line says."
    assert cli.described(values["the_kind"]) == ("--the_kind=plain", said)
    assert cli.described(values["on"]) == ("--[no]on", "Switch. On by default.")
    assert cli.described(values["names"])[0] == "--names=a,b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--size=7", "--size only applies to --the_kind=fancy, got --the_kind=plain"),
        ("--the_kind=fancy --size=0", "--size must be at least 1, got 0"),
        ("--ends=1", "--ends must be low,high, got '1'"),
        ("--weights=a", "--weights must be class=number,..., got 'a'"),
    ],
)
def test_what_cannot_be_is_refused(line, message):
    with pytest.raises(cli.UsageError, match=message):
        made(*line.split())[0].read()


def test_flags_that_are_not_given_leave_the_base_as_it_is():
    base = Options(share=0.9, names=("z",))
    fields, _ = made("--rate=1", unset=True)
    assert fields.read(base) == dataclasses.replace(base, rate=1.0)


def test_every_flag_knows_its_name():
    fields, _ = made("--share=1", "--on")
    assert fields.names[0] == "the_kind" and "inner" not in fields.names
    assert fields.given() == ["share", "on"]
