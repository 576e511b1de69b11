"""A stream goes on exactly or not at all."""

import dataclasses

import numpy as np
import pytest

from datapipe import resume
from datapipe.augment.options import AugmentOptions
from datapipe.augment.presets import PRESETS
from datapipe.plan import sampling
from datapipe.rows import streaming
from records.common.targets import Target
from tests import fakes

LABELS = np.array([0] * 30 + [1] * 12)
BALANCED = Target("balanced")


def plan(target=BALANCED, seed=5, batch_size=12, labels=LABELS, **options):
    return sampling.plan(labels, ["a", "b"], target, seed=seed, batch_size=batch_size, **options)


def identity(made=None, rows=None, options=PRESETS["photo"], records="abc", split="train", **given):
    return resume.identity(
        rows, made or plan(), options, records_digest=records, split=split, **given
    )


def test_the_same_stream_goes_on():
    saved = resume.StreamState(41, identity())
    again = resume.from_json(saved.to_json())
    assert again == saved and len(saved.to_json()) < 2000
    assert resume.check(again, identity()) == 41


@pytest.mark.parametrize(
    ("field", "now"),
    [
        ("seed", identity(plan(seed=6))),
        ("batch_size", identity(plan(batch_size=6))),
        ("draws", identity(plan(target=Target("band", low=13, high=20)))),
        ("rows", identity(plan(labels=LABELS[::-1]))),
        ("strata", identity(plan(strata=np.arange(42) % 2))),
        ("records", identity(records="abd")),
        ("split", identity(split="fold0")),
        ("augment", identity(options=PRESETS["none"])),
        ("augment", identity(options=dataclasses.replace(PRESETS["photo"], strength={"a": 0.5}))),
        ("class_weights", identity(class_weights=np.array([1.0, 2.0]))),
        ("input_range", identity(input_range="-1..1")),
        ("images", identity(augment_on_device=True)),
        ("classes", identity(dataclasses.replace(plan(), class_names=("b", "a")))),
    ],
)
def test_another_stream_is_refused_by_the_field_that_differs(field, now):
    saved = resume.from_json(resume.StreamState(3, identity()).to_json())
    with pytest.raises(resume.ResumeError) as caught:
        resume.check(saved, now)
    text = str(caught.value)
    assert text.startswith(f"{field} was {saved.identity[field]!r}")
    assert f"is {now[field]!r} now" in text


def test_rows_in_memory_and_streamed_have_another_order(tmp_path):
    records = fakes.built(tmp_path, {"a": 30, "b": 12}, ratios={"train": 1.0})
    rows = streaming.open_stream(records, "train")
    saved = resume.StreamState(0, identity())
    with pytest.raises(resume.ResumeError, match=r"order was 'all rows' .* 'windows of 1 sh"):
        resume.check(saved, identity(rows=rows))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"step": -1, "identity": {}}',
        '{"step": 1}',
        '{"step": 3.7, "identity": {}}',
        '{"step": Infinity, "identity": {}}',
    ],
)
def test_what_is_no_state_is_refused(text):
    with pytest.raises(resume.ResumeError):
        resume.from_json(text)


def test_a_whole_number_and_its_float_are_one_range():
    whole, other = (AugmentOptions(rotation_range=r, brightness_range=(r, 40)) for r in (30, 30.0))
    assert identity(options=whole) == identity(options=other)


def test_options_that_are_the_default_leave_no_trace():
    # So that a field added later does not keep older states from going on.
    assert identity(options=AugmentOptions())["augment"] == "{}"
