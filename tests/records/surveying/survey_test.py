"""Each planted fault is found and named; a clean set has no finding."""

import dataclasses

import numpy as np
import pytest
from PIL import PngImagePlugin

from records.image.decode import ImagePolicy
from records.inspect import contact_sheet, likeness
from records.source import rules, trees
from records.source.listing import list_images
from records.surveying import facts, measure_source, page, survey
from tests import fakes

CLEAN = {"둥근 것": 30, "edgy": 30, "soft": 30}


def clean(counts=CLEAN, size=24):
    """Returns files of classes that differ in nothing."""
    keys = [f"{name}/{number:03d}.png" for name, count in counts.items() for number in range(count)]
    return {key: fakes.encoded(fakes.pixels(seed, size)) for seed, key in enumerate(keys)}


def surveyed(root, files, *, given_splits=False, image_size=16, rule=None, **changes):
    """Returns the findings by kind about a source of these files."""
    listing = list_images(
        trees.open_tree(str(fakes.tree(root, files))),
        rule or rules.by_folder(given_splits=given_splits),
    )
    gathered = measure_source.gather(
        listing,
        ImagePolicy(size=image_size),
        given_splits=given_splits,
        num_workers=1,
        show_progress=False,
    )
    return by_kind(dataclasses.replace(gathered, **changes))


def by_kind(gathered):
    alike = likeness.pairs(gathered.columns, gathered.prints)
    found = survey.findings(gathered, alike, 0.15)
    assert len({finding.what for finding in found}) == len(found)
    return {finding.kind: finding for finding in found}


def names(finding):
    return [item.name for item in finding.items]


def shifted(data_seed, shift, size=24):
    pixels = fakes.pixels(data_seed, size).astype(int) // 2 + shift
    return fakes.encoded(np.clip(pixels, 0, 255).astype(np.uint8))


def test_a_clean_set_has_no_finding(tmp_path):
    assert surveyed(tmp_path, clean()) == {}


def test_twenty_equal_classes_have_no_finding(tmp_path):
    assert surveyed(tmp_path, clean({f"{at:02d}": 25 for at in range(20)})) == {}


def test_a_bright_class_is_named(tmp_path):
    files = clean()
    bright = {f"밝은/{seed}.png": shifted(seed, 120) for seed in range(500, 530)}
    found = surveyed(tmp_path, {**files, **bright})
    finding = found["odd_brightness"]
    assert names(finding) == ["밝은"]
    assert finding.what.startswith("1 class lies far off the others in brightness: 밝은 (median 1")
    assert "--brightness_range" in finding.advice


def test_an_outlier_is_named_with_its_distance(tmp_path):
    files = {f"a/{seed:03d}.png": shifted(seed, 20) for seed in range(80)}
    files |= {f"b/{seed:03d}.png": shifted(seed, 20) for seed in range(100, 180)}
    files["b/달.png"] = shifted(999, 200)
    (finding,) = surveyed(tmp_path, files).values()
    assert finding.kind == "outlier" and names(finding) == ["b/달.png"]
    assert "brightness 2" in finding.items[0].detail and "robust z +" in finding.items[0].detail
    assert finding.items[0].rows == (160,)


def test_a_class_of_two_kinds_is_said_once_instead_of_many_outliers(tmp_path):
    grey = {
        f"a/{seed:03d}.png": fakes.encoded(fakes.pixels(seed)[..., :1].repeat(3, 2))
        for seed in range(50)
    }
    coloured = {f"a/x{seed}.png": fakes.encoded(fakes.pixels(seed)) for seed in range(200, 216)}
    found = surveyed(tmp_path, {**grey, **coloured, **clean({"b": 60})})
    assert "outlier" not in found
    assert "24% of its images lie far off its median colourfulness" in found["mixed_class"].what


def test_copies_and_lookalikes_are_named_with_their_first(tmp_path):
    files = clean()
    files["edgy/복사.png"] = files["edgy/004.png"]
    again = fakes.pixels(70).astype(int) + 2
    files["soft/zz.png"] = fakes.encoded(np.clip(again, 0, 255).astype(np.uint8))
    found = surveyed(tmp_path, files)
    assert set(found) == {"equal", "near"}
    assert found["equal"].what == (
        "1 file is a copy, to the byte, of another one, in 1 set: edgy/복사.png"
    )
    assert found["equal"].items[0].detail == "like edgy/004.png (edgy)"
    assert names(found["near"]) == ["soft/zz.png"]
    assert "--near_duplicates=0.15" in found["near"].advice


def test_equal_images_with_two_labels_are_named(tmp_path):
    files = clean()
    files["soft/same.png"] = files["edgy/004.png"]
    found = surveyed(tmp_path, files)
    assert set(found) == {"equal_labels_differ", "equal"}
    finding = found["equal_labels_differ"]
    assert finding.what == (
        "2 images are equal to the byte to one of another class: edgy/004.png, soft/same.png"
    )
    assert [item.detail for item in finding.items] == [
        "like soft/same.png (soft)",
        "like edgy/004.png (edgy)",
    ]
    assert "--overrides" in found["equal_labels_differ"].advice


def test_leaks_between_given_splits_are_named(tmp_path):
    files = {f"train/{key}": data for key, data in clean().items()}
    files |= {f"test/{key}": fakes.encoded(fakes.pixels(1000 + n))
              for n, key in enumerate(clean())}  # fmt: skip
    files["train/edgy/leak.png"] = files["test/edgy/007.png"]
    found = surveyed(tmp_path, files, given_splits=True)
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
         "30 images of test are equal to the byte to one of another split: test/edgy/x00.png"),
        ({"train": [0] * 30, "test": [0]}, "equal_across_splits",
         "1 image of test is equal to the byte to one of another split: test/edgy/x00.png"),
        ({"train": [0], "test": [0] * 9, "val": [0] * 4}, "equal_across_splits",
         "13 images of test (9) and validation (4) are equal to the byte to one of another"),
        ({"train": [0], "test": range(1, 31)}, "near_across_splits",
         "30 images of test look the same as one of another split: test/edgy/x00.png"),
        ({"test": [0], "val": [1]}, "near_across_splits",
         "2 images of test (1) and validation (1) look the same as one of another split"),
    ],
)  # fmt: skip
def test_every_image_that_spoils_a_score_is_counted(tmp_path, images, kind, said):
    files = {f"train/{key}": data for key, data in clean().items()}
    for split, numbers in images.items():
        for at, number in enumerate(numbers):
            files[f"{split}/edgy/x{at:02d}.png"] = saved_again(number)
    found = surveyed(tmp_path, files, given_splits=True)
    assert found[kind].what.startswith(said)
    splits_apart = found.keys() & {"equal_across_splits", "near_across_splits"}
    assert splits_apart == {kind}


def test_advice_for_given_splits_is_what_a_build_would_take(tmp_path):
    files = {f"{split}/{key}": data for split in ("train", "test") for key, data in clean().items()}
    files["test/edgy/x.png"] = saved_again(1)
    files["train/edgy/y.png"] = files["train/edgy/z.png"] = saved_again(2)
    found = surveyed(tmp_path, files, given_splits=True)
    kinds = ("equal_across_splits", "near_across_splits", "equal", "near")
    assert all("--on_leak=drop" in found[kind].advice for kind in kinds)
    assert "--near_duplicates=0.15 --on_leak=drop" in found["near_across_splits"].advice
    assert "--near_duplicates=0.15 without --splits=given" in found["near"].advice
    parted = surveyed(
        tmp_path, {}, given_splits=False, rule=rules.by_pattern("[^/]*/(?P<label>[^/]*)/")
    )
    assert parted["near"].advice == "--near_duplicates=0.15 of the build keeps them in one split"
    assert parted["equal"].advice.startswith("the build keeps them in one split")


def test_groups_in_two_splits_are_named(tmp_path):
    listing = list_images(trees.open_tree(str(fakes.tree(tmp_path, clean()))), rules.by_folder())
    gathered = measure_source.gather(
        listing, ImagePolicy(size=8), given_splits=False, num_workers=1, show_progress=False
    )
    split, group = np.arange(90) % 2, np.arange(90) // 2
    group[2:] += 100 * np.arange(88)
    columns = dataclasses.replace(gathered.columns, split=split, group=group)
    found = by_kind(dataclasses.replace(gathered, columns=columns, split_names=("x", "y")))
    assert names(found["group_across_splits"]) == [gathered.key(0), gathered.key(1)]


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
    (finding,) = surveyed(tmp_path, {**clean(), key: data, "soft/.hidden": b""}).values()
    assert finding.kind == "unreadable" and names(finding) == [key]
    assert finding.what == f"1 file cannot be used (1 x {reason}): {key}"
    assert finding.items[0].detail.startswith(f"{reason}: ")
    assert finding.items[0].class_name == key.split("/")[0]


def test_images_of_one_colour_are_named(tmp_path):
    blank = np.full((24, 24, 3), 250, np.uint8)
    blank[0, 0] = 240
    found = surveyed(tmp_path, {**clean(), "soft/빈.png": fakes.encoded(blank)})
    assert names(found["uniform"]) == ["soft/빈.png"]
    assert found["uniform"].items[0].detail == "contrast 0.3"


def test_tiny_and_long_images_are_named_with_their_size(tmp_path):
    files = clean()
    files["edgy/tiny.png"] = fakes.encoded(fakes.pixels(500, 7))
    files["edgy/wide.png"] = fakes.encoded(fakes.pixels(501, 80)[:20])
    files["edgy/just.png"] = fakes.encoded(fakes.pixels(502, 60)[:, :20])
    found = surveyed(tmp_path, files)
    assert {kind: [(i.name, i.detail) for i in f.items] for kind, f in found.items()} == {
        "tiny": [("edgy/tiny.png", "7x7")],
        "long": [("edgy/wide.png", "80x20")],
    }


def test_small_missing_and_unequal_classes_are_named(tmp_path):
    files = {f"train/{key}": data for key, data in clean({"a": 30, "b": 9, "c": 12}).items()}
    files |= {f"test/a/{n}.png": fakes.encoded(fakes.pixels(2000 + n)) for n in range(5)}
    found = surveyed(tmp_path, files, given_splits=True)
    assert set(found) == {"small_class", "missing_class", "imbalance"}
    assert found["small_class"].what == "1 class has fewer than 10 images: b (9 images)"
    assert found["missing_class"].what == "2 classes have no image in test: b, c"
    assert found["imbalance"].what == (
        "the largest class has 3.9 times the images of the smallest: a (35 images), b (9 images)"
    )


def test_what_is_small_in_one_split_is_said_of_it_alone(tmp_path):
    found = surveyed(
        tmp_path, clean({"a": 30, "b": 9}), split_names=("test",), only_split="test", rejects=()
    )
    assert found["small_class"].what == "1 class has fewer than 10 images in test: b (9 images)"
    assert found["imbalance"].what.startswith(
        "the largest class has 3.3 times the images of the smallest in test"
    )


def test_a_class_without_any_image_is_not_missing_in_each_split(tmp_path):
    found = surveyed(tmp_path, clean(), class_names=("edgy", "soft", "둥근 것", "none"))
    assert found["missing_class"].what == "1 class has no image at all: none"
    assert set(found) == {"missing_class"}


def test_what_the_listing_warns_of_is_a_finding(tmp_path):
    found = surveyed(tmp_path, clean({"a": 30}))
    assert set(found) == {"warning"} and "one class only" in found["warning"].what


def test_names_that_are_hard_to_print_stand_whole_among_the_items(tmp_path):
    name = "soft/a\nb\udcff.png"
    found = surveyed(tmp_path, {**clean(), name: fakes.encoded(np.zeros((24, 24, 3), np.uint8))})
    assert names(found["uniform"]) == [name]
    assert r"soft/a\nb\udcff.png (contrast 0.0)" in found["uniform"].what


def test_a_long_list_is_cut_in_the_sentence_alone(tmp_path):
    files = clean()
    files |= {f"soft/x{n}.png": files["edgy/004.png"] for n in range(8)}
    found = surveyed(tmp_path, files)["equal"]
    assert found.what.endswith("soft/x0.png, soft/x1.png, soft/x2.png, soft/x3.png, soft/x4.png"
                               " and 3 more")  # fmt: skip
    assert len(found.items) == 8


def test_pictures_are_kept_small_and_of_two_that_are_alike_one_is_shown(tmp_path, monkeypatch):
    files = clean()
    files["soft/same.png"] = files["edgy/004.png"]
    listing = list_images(trees.open_tree(str(fakes.tree(tmp_path, files))), rules.by_folder())
    gathered = measure_source.gather(
        listing, ImagePolicy(size=200), given_splits=False, num_workers=1, show_progress=False
    )
    found = [by_kind(gathered)["equal_labels_differ"]]
    said = page.contents(facts.facts(gathered), found, 0.15)
    strips, strip = [], contact_sheet.strip
    monkeypatch.setattr(
        contact_sheet, "strip", lambda images, edge: strips.append(images) or strip(images, edge)
    )
    page.write(said, found, gathered, str(tmp_path / "out"))
    assert [len(images) for images in strips] == [2, 12, 12, 12]
    assert {image.shape for images in strips for image in images} == {(96, 96, 3)}


# --- facts ---


@pytest.mark.parametrize(
    ("counts", "ratio", "effective"),
    [([10, 10, 10, 10], 1, 4), ([10], 1, 1), ([30, 10, 0], 3, 1.755), ([997, 1], 997, 1.008)],
)
def test_imbalance(counts, ratio, effective):
    found = facts.imbalance(np.array(counts), "abcd")
    assert found["ratio"] == ratio and found["effective_classes"] == effective
    assert found["classes"] == np.count_nonzero(counts)


def test_what_targets_would_draw():
    found = facts.drawn("train", np.array([2000, 500, 100, 0]), ["a", "b", "c", "d"])
    assert found["band"] == {"low": 250, "high": 1000, "above": ["a"], "below": ["c"]}
    assert {name: row["draws"] for name, row in found["by_name"].items()} == {
        "natural": [2000, 500, 100, 0],
        "undersample": [100, 100, 100, 0],
        "oversample": [2000, 2000, 2000, 0],
        "band": [1000, 500, 250, 0],
        "balanced": [867, 867, 866, 0],
        "sqrt": [1509, 754, 337, 0],
        "effective": [1298, 713, 589, 0],
    }
    assert found["by_name"]["band"]["epoch"] == 1750
    assert found["by_name"]["band"]["row_draws"] == {
        "lowest": {"class": "a", "draws": 0.5},
        "highest": {"class": "c", "draws": 2.5},
    }
