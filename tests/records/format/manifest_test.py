"""Tests for records.format.manifest."""

import dataclasses
import json

import pytest

from records.format import manifest

SPLIT = manifest.Split(
    class_counts=(3, 1),
    shards=(manifest.Shard("train-00000-of-00001.tfrecord", 4, 100, "ab"),),
    index=manifest.Shard("train.index.npz", 4, 50, "cd"),
)
MANIFEST = manifest.Manifest(
    class_names=("a", "손 b\udcff"),
    domains=("",),
    image_size=8,
    encoding="png",
    splits={"train": SPLIT},
    accounting={"a": {"found": 3, "written": 3, "quarantined": 0, "excluded": 0}},
    rejects=manifest.Shard(manifest.REJECTS_NAME, 0, 0, "ef"),
    reasons={},
    settings={"splits": {"train": 1.0}},
    sources_sha256="12",
    attributes={"mask": ("a", "손 b\udcff")},
    notes={"first_page": 1},
)


def test_it_comes_back_from_json():
    text = manifest.to_json(MANIFEST).decode("utf-8")
    assert manifest.from_json(text) == MANIFEST
    assert manifest.to_json(manifest.from_json(text)) == manifest.to_json(MANIFEST)


def test_fields_newer_than_its_version_are_not_written():
    first = dataclasses.replace(MANIFEST, format_version=1, attributes={}, notes={})
    written = json.loads(manifest.to_json(first))
    assert not {"attributes", "notes"} & written.keys()
    assert manifest.from_json(json.dumps(written)) == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, "changed after it was written"),
        ({"format_version": 3}, r"format_version must lie in 1\.\.2, got 3"),
        ({"format_version": "2"}, "format_version must lie in"),
        ({"splits": []}, "the manifest is damaged: AttributeError"),
        ({"surprise": 1}, "the manifest is damaged: TypeError"),
    ],
)
def test_what_was_changed_is_refused(change, message):
    fields = {**json.loads(manifest.to_json(MANIFEST)), **change}
    with pytest.raises(manifest.ManifestError, match=message):
        manifest.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "{}"])
def test_what_is_not_a_manifest_is_refused(text):
    with pytest.raises(manifest.ManifestError, match="the manifest is damaged"):
        manifest.from_json(text)


def test_the_digest_stands_for_every_field():
    other = dataclasses.replace(MANIFEST, notes={"first_page": 2})
    assert MANIFEST.digest == dataclasses.replace(MANIFEST).digest != other.digest


def test_an_unknown_split_is_refused_with_the_names_there_are():
    assert MANIFEST.split("train").count == 4
    with pytest.raises(manifest.ManifestError, match="no split 'test'; the record set has train"):
        MANIFEST.split("test")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("manifest.json", True),
        ("rejects.jsonl", True),
        ("train.index.npz", True),
        ("a-00000-of-00001.tfrecord", True),
        ("thesis.doc", False),
        ("../manifest.json", False),
        ("", False),
    ],
)
def test_names_of_files_of_a_set(name, expected):
    assert manifest.is_file_name(name) == expected


def test_a_folder_without_a_manifest_is_not_a_set(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(manifest.ManifestError, match=r"no record set in .* is missing"):
            manifest.load(str(path))
