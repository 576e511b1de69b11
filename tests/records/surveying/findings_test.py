"""Planted leaks, duplicates, unusable files and small classes are found and named."""

import dataclasses

import numpy as np
import pytest
from PIL import PngImagePlugin

from records.source import rules
from tests import fakes
from tests.records.surveying import made


def test_duplicates_and_near_duplicates_are_named_with_their_first(tmp_path):
    files = made.clean()
    files["edgy/복사.png"] = files["edgy/004.png"]
    again = fakes.pixels(70).astype(int) + 2
    files["soft/zz.png"] = fakes.encoded(np.clip(again, 0, 255).astype(np.uint8))
    found = made.surveyed(tmp_path, files)
    assert set(found) == {"equal", "near"}
    assert found["equal"].what == ("1 file is a byte-identical duplicate, in 1 set: edgy/복사.png")
    assert found["equal"].items[0].detail == "like edgy/004.png (edgy)"
    assert made.names(found["near"]) == ["soft/zz.png"]
    assert "--near_duplicates=0.15" in found["near"].advice


def test_equal_images_with_two_labels_are_named(tmp_path):
    files = made.clean()
    files["soft/same.png"] = files["edgy/004.png"]
    found = made.surveyed(tmp_path, files)
    assert set(found) == {"equal_labels_differ", "equal"}
    finding = found["equal_labels_differ"]
    assert finding.what == (
        "2 images are byte-identical duplicates of an image of another class: edgy/004.png,"
        " soft/same.png"
    )
    assert [item.detail for item in finding.items] == [
        "like soft/same.png (soft)",
        "like edgy/004.png (edgy)",
    ]
    assert "--overrides" in found["equal_labels_differ"].advice


def test_leaks_between_given_splits_are_named(tmp_path):
    files = {f"train/{key}": data for key, data in made.clean().items()}
    files |= {f"test/{key}": fakes.encoded(fakes.pixels(1000 + n))
              for n, key in enumerate(made.clean())}  # fmt: skip
    files["train/edgy/leak.png"] = files["test/edgy/007.png"]
    found = made.surveyed(tmp_path, files, given_splits=True)
    assert set(found) == {"equal_across_splits", "equal"}
    (item,) = found["equal_across_splits"].items
    assert item.name == "test/edgy/007.png"
    assert item.detail == "in test, like train/edgy/leak.png (edgy, train)"


def saved_again(number):
    info = PngImagePlugin.PngInfo()
    info.add_text("number", str(number))
    return fakes.encoded(fakes.pixels(7000), pnginfo=info)


@pytest.mark.parametrize(
    ("images", "kind", "said"),
    [
        ({"train": [0], "test": [0] * 30}, "equal_across_splits",
         "30 images of test are byte-identical duplicates of an image in another split: test/edgy"),
        ({"train": [0] * 30, "test": [0]}, "equal_across_splits",
         "1 image of test is a byte-identical duplicate of an image in another split: test/edgy"),
        ({"train": [0], "test": [0] * 9, "val": [0] * 4}, "equal_across_splits",
         "13 images of test (9) and validation (4) are byte-identical duplicates of"),
        ({"train": [0], "test": range(1, 31)}, "near_across_splits",
         "30 images of test are near duplicates of an image in another split: test/edgy"),
        ({"test": [0], "val": [1]}, "near_across_splits",
         "2 images of test (1) and validation (1) are near duplicates of an image in another"),
    ],
)  # fmt: skip
def test_every_leaked_image_that_is_scored_is_counted(tmp_path, images, kind, said):
    files = {f"train/{key}": data for key, data in made.clean().items()}
    for split, numbers in images.items():
        for at, number in enumerate(numbers):
            files[f"{split}/edgy/x{at:02d}.png"] = saved_again(number)
    found = made.surveyed(tmp_path, files, given_splits=True)
    assert found[kind].what.startswith(said)
    splits_apart = found.keys() & {"equal_across_splits", "near_across_splits"}
    assert splits_apart == {kind}


def test_advice_for_given_splits_is_what_a_build_would_take(tmp_path):
    files = {
        f"{split}/{key}": data for split in ("train", "test") for key, data in made.clean().items()
    }
    files["test/edgy/x.png"] = saved_again(1)
    files["train/edgy/y.png"] = files["train/edgy/z.png"] = saved_again(2)
    found = made.surveyed(tmp_path, files, given_splits=True)
    kinds = ("equal_across_splits", "near_across_splits", "equal", "near")
    assert all("--on_leak=drop" in found[kind].advice for kind in kinds)
    assert "--near_duplicates=0.15 --on_leak=drop" in found["near_across_splits"].advice
    assert "--near_duplicates=0.15 without --splits=given" in found["near"].advice
    parted = made.surveyed(
        tmp_path, {}, given_splits=False, rule=rules.by_pattern("[^/]*/(?P<label>[^/]*)/")
    )
    assert parted["near"].advice == "--near_duplicates=0.15 of the build keeps them in one split"
    assert parted["equal"].advice.startswith("the build keeps them in one split")


def test_groups_in_two_splits_are_named(tmp_path):
    table = made.table_of(tmp_path, made.clean())
    split, group = np.arange(90) % 2, np.arange(90) // 2
    group[2:] += 100 * np.arange(88)
    columns = dataclasses.replace(table.columns, split=split, group=group)
    found = made.by_kind(dataclasses.replace(table, columns=columns, split_names=("x", "y")))
    assert made.names(found["group_across_splits"]) == [table.key(0), table.key(1)]


@pytest.mark.parametrize(
    ("key", "data", "reason"),
    [
        ("edgy/글.jpg", b"not an image", "not_an_image"),
        ("soft/cut.png", fakes.encoded(fakes.pixels(1))[:60], "truncated"),
        ("soft/empty.gif", b"", "empty"),
        ("soft/drawing.svg", b"<svg>", "format_not_allowed"),
    ],
)
def test_files_that_cannot_be_used_are_named_with_the_reason(tmp_path, key, data, reason):
    (finding,) = made.surveyed(tmp_path, {**made.clean(), key: data, "soft/.hidden": b""}).values()
    assert finding.kind == "unreadable" and made.names(finding) == [key]
    assert finding.what == f"1 file cannot be used (1 x {reason}): {key}"
    assert finding.items[0].detail.startswith(f"{reason}: ")
    assert finding.items[0].class_name == key.split("/")[0]


def test_small_missing_and_unequal_classes_are_named(tmp_path):
    files = {f"train/{key}": data for key, data in made.clean({"a": 30, "b": 9, "c": 12}).items()}
    files |= {f"test/a/{n}.png": fakes.encoded(fakes.pixels(2000 + n)) for n in range(5)}
    found = made.surveyed(tmp_path, files, given_splits=True)
    assert set(found) == {"small_class", "missing_class", "imbalance"}
    assert found["small_class"].what == "1 class has fewer than 10 images: b (9 images)"
    assert found["missing_class"].what == "2 classes have no image in test: b, c"
    assert found["imbalance"].what == (
        "the largest class has 3.9 times as many images as the smallest: a (35 images),"
        " b (9 images)"
    )


def test_what_is_small_in_one_split_is_said_of_it_alone(tmp_path):
    found = made.surveyed(
        tmp_path,
        made.clean({"a": 30, "b": 9}),
        split_names=("test",),
        only_split="test",
        omitted=(),
    )
    assert found["small_class"].what == "1 class has fewer than 10 images in test: b (9 images)"
    assert found["imbalance"].what.startswith(
        "the largest class has 3.3 times as many images as the smallest in test"
    )


def test_a_class_without_any_image_is_not_missing_in_each_split(tmp_path):
    found = made.surveyed(tmp_path, made.clean(), class_names=("edgy", "soft", "둥근 것", "none"))
    assert found["missing_class"].what == "1 class has no image at all: none"
    assert set(found) == {"missing_class"}


def test_what_the_listing_warns_of_is_a_finding(tmp_path):
    found = made.surveyed(tmp_path, made.clean({"a": 30}))
    assert set(found) == {"warning"} and "only one class" in found["warning"].what
