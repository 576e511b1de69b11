"""A source and the records made from it are measured alike; nothing of either is lost."""

import os
import struct
import zipfile
import zlib

import numpy as np
import pytest

from records.builder import build, layout, shard_writer
from records.common.errors import DamagedRecordError
from records.format import record_set
from records.format.manifest import ManifestError
from records.image import decode, near_duplicates
from records.source import label_csv, rules, trees
from records.source import listing as sources
from records.surveying import measure
from tests import fakes
from tests.records import made

POLICY = decode.ImagePolicy(size=16)
COLUMNS = ("label", "source", "content")


def measured(source, *, given_splits=False, policy=POLICY, num_workers=1, rule=None):
    rule = rule or rules.by_folder(given_splits=given_splits)
    return measure.measure_source(
        sources.list_images(trees.open_tree(str(source)), rule),
        policy,
        given_splits=given_splits,
        num_workers=num_workers,
        show_progress=False,
    )


def of_records(opened, splits=None, num_workers=1):
    return measure.measure_records(
        opened, splits or list(opened.manifest.splits), num_workers=num_workers, show_progress=False
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two classes, names of every kind, and files that are no images."""
    root = fakes.class_tree(tmp_path_factory.mktemp("set") / "원본", {"가": 300, "b": 30})
    names = ("한글 이름.png", os.fsdecode(b"\xff\x80.png"), "a\nb.png", "<b>&.png")
    for seed, name in enumerate(names):
        fakes.tree(root, {f"b/{name}": fakes.encoded(fakes.pixels(seed + 900, 40))})
    return fakes.tree(root, {"b/note.png": b"no image", "b/cut.jpg": b"\xff\xd8\xff\xe0", "x": b""})


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("out") / "records")
    options = build.BuildOptions(
        policy=POLICY, splits=layout.SplitOptions({"train": 0.6, "test": 0.4})
    )
    listing = sources.from_folders(str(source))
    build.build(listing, output, options, num_workers=1, show_progress=False)
    return record_set.open_set(output)


def test_records_and_source_of_the_same_images_agree(source, built):
    before, after = measured(source), of_records(built)
    assert list(before.keys) == list(after.keys) == sorted(before.keys)
    assert before.class_names == after.class_names and len(before) == 334
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(before.columns, name), getattr(after.columns, name))
    np.testing.assert_array_equal(before.statistics, after.statistics)
    np.testing.assert_array_equal(before.fingerprints, after.fingerprints)
    assert before.omitted == after.omitted and len(before.omitted) == 3
    for row in (0, 100, 333):
        np.testing.assert_array_equal(before.pixels(row), after.pixels(row))


def test_an_archive_is_measured_as_its_folder(source, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file() and str(path).isprintable() and path.suffix:
                archive.write(path, path.relative_to(source))
    folder, packed = measured(source), measured(tmp_path / "x.zip")
    rows = [list(folder.keys).index(key) for key in packed.keys]
    assert len(rows) >= 332
    np.testing.assert_array_equal(folder.statistics[rows], packed.statistics)
    np.testing.assert_array_equal(packed.pixels(5), folder.pixels(rows[5]))


def test_the_number_of_workers_changes_nothing(source, built):
    for one, two in (
        (measured(source), measured(source, num_workers=2)),
        (of_records(built), of_records(built, num_workers=2)),
    ):
        assert list(one.keys) == list(two.keys) and one.omitted == two.omitted
        np.testing.assert_array_equal(one.statistics, two.statistics)
        np.testing.assert_array_equal(one.fingerprints, two.fingerprints)


def test_one_split_alone(built):
    test = of_records(built, ["test"])
    assert test.counts()["test"].tolist() == list(built.manifest.split("test").class_counts)
    assert test.split_of(0) == "test" and list(test.counts()) == ["test"]
    # Of files that were not in the set nobody knows the split.
    assert test.only_split == "test" and test.omitted == () and not test.notes
    assert of_records(built).only_split == "" and of_records(built).omitted


@pytest.mark.parametrize(("size", "expected"), [(16, 256), (256, 42), (2000, 1), (4096, 1)])
def test_few_large_images_are_measured_together(size, expected):
    assert measure.batch_size(size, 256) == expected


def test_how_much_is_measured_together_changes_nothing(source, built, monkeypatch):
    before = measured(source), of_records(built)
    monkeypatch.setattr(measure, "_BATCH_BYTES", 3000)
    monkeypatch.setattr(near_duplicates, "_STRIP_BYTES", 500)
    for old, new in zip(before, (measured(source), of_records(built)), strict=True):
        np.testing.assert_array_equal(old.statistics, new.statistics)
        np.testing.assert_array_equal(old.fingerprints, new.fingerprints)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ratios": {"train": 0.5, "given": 0.5}}, False),
        ({"ratios": {}, "given": True}, True),
        ({"ratios": {"validation": 0.5}, "given": True}, True),
    ],
)
def test_records_know_whether_their_splits_were_given(tmp_path, options, expected):
    root = fakes.class_tree(tmp_path / "t" / "train", {"a": 6, "b": 6}).parent
    listing = sources.from_folders(str(root), given_splits=True)
    how = build.BuildOptions(policy=POLICY, splits=layout.SplitOptions(**options))
    build.build(listing, str(tmp_path / "set"), how, num_workers=1, show_progress=False)
    assert of_records(record_set.open_set(str(tmp_path / "set"))).given_splits == expected
    assert measured(root, given_splits=True).given_splits


def test_headers_say_format_mode_and_upright_size(tmp_path):
    upright = fakes.pixels(0, 40)[:, :20]
    root = fakes.tree(
        tmp_path,
        {
            "a/1.png": fakes.encoded(upright),
            "a/2.dat": fakes.encoded(upright[..., 0], "JPEG"),
            "a/3.gif": fakes.encoded(upright, "GIF"),
        },
    )
    headers = measured(root, rule=rules.by_pattern("(?P<label>a)/")).headers
    assert headers.size.tolist() == [[20, 40]] * 3
    assert [headers.kinds[kind] for kind in headers.kind] == [
        ("PNG", "RGB"),
        ("JPEG", "L"),
        ("GIF", "P"),
    ]


def test_boxes_have_their_own_keys_sizes_and_content(tmp_path):
    fakes.tree(tmp_path / "t", {"a.png": fakes.encoded(fakes.pixels(1, 64))})
    (tmp_path / "l.csv").write_text(
        "path,label,x,y,r,b\na.png,cat,40,0,60,32\na.png,dog,0,0,16,16\n", "utf-8"
    )
    rule = rules.by_csv(str(tmp_path / "l.csv"), label_csv.Columns(box=("x", "y", "r", "b")))
    found = measured(tmp_path / "t", rule=rule)
    assert [found.key(row) for row in (0, 1)] == ["a.png#0,0,16,16", "a.png#40,0,60,32"]
    assert [found.class_of(row) for row in (0, 1)] == ["dog", "cat"]
    assert found.headers.size.tolist() == [[16, 16], [20, 32]]
    assert (found.columns.source[0] == found.columns.source[1]).all()
    assert (found.columns.content[0] != found.columns.content[1]).any()


@pytest.mark.parametrize(
    ("box", "size"),
    [((0, 60, 50, 100), [50, 40]), ((10, 70, 90, 130), [40, 30]), ((5, 60, 25, 90), [20, 30])],
)
def test_a_box_of_a_picture_that_says_late_that_it_lies_on_its_side(tmp_path, box, size):
    plain = fakes.encoded(fakes.pixels(3, 100)[:50])
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = struct.pack(">I4s", len(exif), b"eXIf") + exif
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    fakes.tree(tmp_path / "t", {"a.png": plain[:-12] + chunk + plain[-12:]})
    line = ",".join(map(str, box))
    (tmp_path / "l.csv").write_text(f"path,label,x,y,r,b\na.png,cat,{line}\n", "utf-8")
    rule = rules.by_csv(str(tmp_path / "l.csv"), label_csv.Columns(box=("x", "y", "r", "b")))
    assert measured(tmp_path / "t", rule=rule).headers.size.tolist() == [size]


def test_given_splits_are_taken_and_missing_ones_refused(tmp_path):
    root = fakes.class_tree(tmp_path / "t" / "train", {"a": 3, "b": 2}).parent
    fakes.class_tree(root / "val", {"a": 2, "b": 1})
    found = measured(root, given_splits=True)
    assert {name: counts.tolist() for name, counts in found.counts().items()} == {
        "train": [3, 2],
        "validation": [2, 1],
    }
    with pytest.raises(
        shard_writer.BuildError, match="--splits=given needs the split of every image"
    ):
        measured(root, given_splits=True, rule=rules.by_pattern("(?P<label>[ab])/"))


def test_a_file_that_goes_before_it_is_shown_is_named(tmp_path):
    found = measured(fakes.class_tree(tmp_path, {"a": 2, "b": 1}))
    (tmp_path / "a/001.png").unlink()
    assert found.pixels(0).shape == (16, 16, 3)
    with pytest.raises(measure.MeasureError, match=r"'a/001\.png' changed since it was measured"):
        found.pixels(1)


def test_a_source_without_an_image_is_refused_with_the_first_file(tmp_path):
    root = fakes.tree(tmp_path, {"a/1.png": b"x", "a/2.png": b""})
    with pytest.raises(measure.MeasureError, match=r"none of 2 .*'a/1.png': not_an_image"):
        measured(root)


def test_damaged_records_are_named(tmp_path):
    opened = made.record_set_of(tmp_path / "set", made.rows([b"%d" % n for n in range(8)]))
    (tmp_path / "set/rejects.jsonl").write_text("{}\n")
    with pytest.raises(ManifestError, match=r"rejects\.jsonl is damaged"):
        of_records(opened)
    shard = next((tmp_path / "set").glob("train-*.tfrecord"))
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedRecordError, match=r"train-.*row 5"):
        of_records(opened)
