"""Splits that the source gives, leaks, conflicts and near duplicates, on real small sets."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from records.builder import accounting, build, layout, shard_writer
from records.format import record_set
from records.image import decode
from records.source import listing as sources
from records.source import rules, trees
from tests import fakes

SIZE = 16


def make(tmp_path, files, rule=None, **splits):
    root = fakes.tree(tmp_path / "tree", files)
    options = build.BuildOptions(
        policy=decode.ImagePolicy(size=SIZE), splits=layout.SplitOptions(**splits)
    )
    listing = sources.list_images(
        trees.open_tree(str(root)), rule or rules.by_folder(given_splits=True)
    )
    out = str(tmp_path / "out")
    built = build.build(listing, out, options, num_workers=1, show_progress=False)
    opened = record_set.open_set(out)
    where = {
        opened.index(split).key(row): split
        for split in opened.manifest.splits
        for row in range(len(opened.index(split)))
    }
    return built, where, {r.key: r.reason for r in accounting.read_omitted(out)}


def picture(seed):
    return fakes.encoded(fakes.pixels(seed))


GIVEN = {f"{split}/{name}/{n}.png": picture(n + 50 * k + 200 * j)
         for j, (split, count) in enumerate((("train", 40), ("test", 10)))
         for k, name in enumerate("ab")
         for n in range(count)}  # fmt: skip


def test_given_splits_are_kept(tmp_path):
    built, where, _ = make(tmp_path, GIVEN, given=True, ratios={})
    assert all(key.startswith(split) for key, split in where.items())
    assert {name: split.count for name, split in built.manifest.splits.items()} == {
        "test": 20,
        "train": 80,
    }
    assert built.manifest.settings["splits"] == {"given": ["test", "train"]}


def test_a_share_is_taken_out_of_the_given_train(tmp_path):
    built, where, _ = make(tmp_path, GIVEN, given=True, ratios={"validation": 0.2})
    counts = {name: split.class_counts for name, split in built.manifest.splits.items()}
    assert counts == {"test": (10, 10), "train": (32, 32), "validation": (8, 8)}
    assert all(where[key] == "test" for key in where if key.startswith("test"))


LEAK = {**GIVEN, "train/a/copy.png": GIVEN["test/a/3.png"]}


def test_equal_images_in_two_given_splits_are_refused(tmp_path):
    message = r"'test/a/3.png' and 'train/a/copy.png'.*--on_leak=drop"
    with pytest.raises(shard_writer.BuildError, match=message):
        make(tmp_path, LEAK, given=True, ratios={})


@pytest.mark.parametrize(
    ("on_leak", "rejects"), [("drop", {"train/a/copy.png": "in_two_splits"}), ("keep", {})]
)
def test_leaks_are_dropped_from_training_or_kept(tmp_path, on_leak, rejects):
    _, where, found = make(tmp_path, LEAK, given=True, ratios={}, on_leak=on_leak)
    assert found == rejects and where["test/a/3.png"] == "test"


def test_a_group_in_two_given_splits_is_a_leak(tmp_path):
    rule = rules.by_pattern(r"^(?P<split>\w+)/(?P<label>.)/(?P<group>\d+)")
    with pytest.raises(
        shard_writer.BuildError, match=r"20 groups or sets of equal images are in two"
    ):
        make(tmp_path, _numbered(), rule, given=True, ratios={})


def _numbered():
    """Persons 0 to 19 in both splits, 20 to 39 in train alone."""
    train = {f"train/a/{n}.png": picture(n) for n in range(40)}
    return {**train, **{f"test/b/{n}.png": picture(n + 100) for n in range(20)}}


@pytest.mark.parametrize(
    ("files", "splits", "message"),
    [
        (
            {"a/1/x.png": picture(1), "b/2/y.png": picture(2)},
            {"ratios": {"c": 0.5}},
            "only be taken out of a given split",
        ),
        (GIVEN, {"ratios": {"test": 0.1}}, "split 'test' is already given"),
        ({"tr ain/a/x.png": picture(1)}, {"ratios": {}}, "plain word, got 'tr ain'"),
    ],
)
def test_given_splits_that_cannot_be_made_are_refused(tmp_path, files, splits, message):
    with pytest.raises(shard_writer.BuildError, match=message):
        make(tmp_path, files, given=True, **splits)


def test_splits_that_nothing_gives_are_refused(tmp_path):
    with pytest.raises(
        shard_writer.BuildError,
        match=r"needs the split of every image, and 'test/a/0\.png' has none",
    ):
        make(tmp_path, GIVEN, rules.by_folder(), given=True, ratios={})


CONFLICT = {**{f"a/{n}.png": picture(n) for n in range(20)},
            **{f"b/{n}.png": picture(n + 30) for n in range(20)},
            "b/same.png": picture(7)}  # fmt: skip


@pytest.mark.parametrize(
    ("on_conflict", "rejects"),
    [("keep", {}), ("drop", dict.fromkeys(("a/7.png", "b/same.png"), "label_conflict"))],
)
def test_equal_images_with_different_labels(tmp_path, on_conflict, rejects):
    built, _, found = make(tmp_path, CONFLICT, rules.by_folder(), on_conflict=on_conflict)
    assert built.label_conflicts == (("a/7.png", "b/same.png"),) and found == rejects


def test_equal_images_with_different_labels_may_be_refused(tmp_path):
    with pytest.raises(
        shard_writer.BuildError, match=r"'a/7.png' = 'b/same.png'.*--on_conflict=drop"
    ):
        make(tmp_path, CONFLICT, rules.by_folder(), on_conflict="refuse")


def test_near_duplicates_stay_in_one_split_if_that_is_wanted(tmp_path):
    rng = np.random.default_rng(0)
    files = {}
    for n in range(60):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)
        files[f"a/{n}.png"] = fakes.encoded(photo)
        files[f"a/{n} again.jpg"] = fakes.encoded(photo.resize((80, 80)), "JPEG", quality=70)
    apart = {}
    for near in (0.0, 0.15):
        folder = tmp_path / str(near)
        _, where, _ = make(folder, files, rules.by_folder(), near_duplicates=near)
        apart[near] = sum(where[f"a/{n}.png"] != where[f"a/{n} again.jpg"] for n in range(60))
    assert apart[0.0] > 15 and apart[0.15] == 0


@pytest.mark.parametrize("name", ["on_leak", "on_conflict"])
def test_unknown_choices_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'perhaps'"):
        dataclasses.replace(layout.SplitOptions(), **{name: "perhaps"})
