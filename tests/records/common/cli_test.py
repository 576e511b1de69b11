"""What the binaries share: suggestions for wrong flags, help, messages and tables."""

import pytest
from absl import flags

from records.common import cli, errors

KNOWN = ("learning_rate", "batch_size", "weight_decay", "model", "dropout", "num_workers", "seed")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "learning_rate"),
        ("wd", "weight_decay"),
        ("bs", "batch_size"),
        ("arch", "model"),
        ("batch-size", "batch_size"),
        ("batchsize", "batch_size"),
        ("learning_rat", "learning_rate"),
        ("jobs", "num_workers"),
        ("random_state", "seed"),
        ("zzz", ""),
    ],
)
def test_an_unknown_flag_proposes_the_nearest(name, meant):
    assert cli.nearest(name, KNOWN) == meant


def values(*line):
    made = flags.FlagValues()
    flags.DEFINE_integer("size", 3, "Size, in cm.", flag_values=made)
    flags.DEFINE_enum("kind", "a", ["a", "b"], "What it is.", flag_values=made)
    flags.DEFINE_bool("dry", False, "Do nothing.", flag_values=made)
    flags.DEFINE_multi_string("skip", [], "Pattern; may be repeated.", flag_values=made)
    flags.DEFINE_list("names", ["x", "y"], "Names.", flag_values=made)
    cli.parse(["test", *line], made)
    return made


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--sice=1", "unknown flag --sice; did you mean --size\\?"),
        ("--zzz", "unknown flag --zzz$"),
        ("--size=big", "--size must be a whole number, got 'big'"),
        ("--kind=c", "--kind must be one of a, b, got 'c'"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(line, message):
    with pytest.raises(cli.UsageError, match=message):
        values(line)


def test_a_flag_of_another_binary_says_so():
    with pytest.raises(cli.UsageError, match="belongs to build_main"):
        cli.parse(["test", "--dry"], flags.FlagValues(), elsewhere={"dry": "belongs to build_main"})


def test_given_flags_are_arguments_again():
    line = ["--dry", "--size=5", "--skip=a", "--skip=b"]
    assert cli.given(["skip", "size", "dry", "kind"], values(*line)) == line


def test_help_shows_defaults_choices_and_groups():
    groups = {"first": ["size", "kind"], "rest:": ["dry"]}
    text = cli.help_text("Does it.\n\n    python -m it", groups, values())
    assert text.splitlines()[:8] == [
        "Does it.",
        "",
        "    python -m it",
        "",
        "first",
        "  --size=3                 Size, in cm.",
        "  --kind=a                 What it is. One of: a, b.",
        "",
    ]
    assert "rest:\n  --dry\n" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dry", ("--[no]dry", "Do nothing.")),
        ("skip", ("--skip=...", "Pattern; may be repeated.")),
        ("names", ("--names=x,y", "Names.")),
    ],
)
def test_a_flag_is_described_with_its_default(name, said):
    assert cli.described(values()[name]) == said


def test_what_is_wrong_with_an_option_names_its_flag():
    def make(message):
        raise ValueError(message)

    with pytest.raises(cli.UsageError, match=r"^--size must be at least 1"):
        cli.checked(lambda: make("size must be at least 1"), values())
    with pytest.raises(cli.UsageError, match=r"^height must be"):
        cli.checked(lambda: make("height must be at least 1"), values())


def test_a_damaged_record_is_not_the_fault_of_a_flag():
    def make():
        raise errors.DamagedRecordError("record 3")

    with pytest.raises(errors.DamagedRecordError):
        cli.checked(make)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["a"], "class=number,..., got 'a'"),
        (["a=1", "a=2"], "must name a class once, got 'a' twice"),
    ],
)
def test_numbers_by_class_that_cannot_be_read(parts, message):
    with pytest.raises(cli.UsageError, match=message):
        cli.by_class("shares", parts)


def test_a_class_name_may_hold_an_equals_sign():
    assert cli.by_class("shares", ["a=b=1", "c=2"]) == {"a=b": 1.0, "c": 2.0}


def test_tables_are_aligned_whatever_the_letters():
    text = cli.table([("class", "n"), ("새\n줄", 1200), ("a\x1b[2J", 3)])
    assert text.splitlines() == [
        "class         n",
        "새\\n줄    1,200",
        "a\\x1b[2J      3",
    ]
