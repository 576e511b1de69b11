"""A file becomes the pixels that stand in the records of a run."""

import dataclasses
import shutil

import numpy as np
import pytest

from models import run_folder
from models.inference import inputs, preprocess
from records.builder import build
from records.format import record_set
from records.image import decode
from records.source import listing as sources
from tests import fakes
from tests.models import made

FACTS = {"image_size": 32, "encoding": "png", "resize": "pad", "filter": "bicubic"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    wide = fakes.encoded(np.tile(fakes.pixels(1, 60), (1, 2, 1)), "JPEG", quality=90)
    return fakes.tree(fakes.class_tree(root, {"a": 9, "b": 9}, size=50), {"a/넓은.jpg": wide})


@pytest.fixture(scope="module", params=decode.ENCODINGS)
def opened(source, tmp_path_factory, request):
    options = build.BuildOptions(decode.ImagePolicy(32, "pad"), encoding=request.param)
    folder = str(tmp_path_factory.mktemp(request.param) / "records")
    listing = sources.from_folders(str(source))
    build.build(listing, folder, options, num_workers=1, show_progress=False)
    return record_set.open_set(folder)


def test_files_become_the_pixels_of_the_records(source, opened):
    recipe = preprocess.recipe_of(made.run(pixels=preprocess.facts(opened.manifest)))
    assert recipe.notes == ()
    found = inputs.find([str(source)]).files
    (chunk,) = preprocess.read_all(found, recipe, chunk_size=100)
    pixels = {file.key: each for file, each in zip(chunk.files, chunk.pixels, strict=True)}
    for split in opened.manifest.splits:
        for row, key in enumerate(opened.index(split).keys):
            np.testing.assert_array_equal(pixels.pop(key.decode()), opened.pixels(split, row))
    assert not pixels


def test_jpeg_records_have_lost_something(source):
    (data,) = (file.read() for file in inputs.find([str(source / "a/넓은.jpg")]).files)
    policy = decode.ImagePolicy(32)
    raw, lossy = (preprocess.pixels(data, preprocess.Recipe(policy, e)) for e in ("raw", "jpeg"))
    assert 0 < np.abs(raw.astype(int) - lossy).mean() < 10


def test_a_run_says_it_itself_or_its_records_do(opened, tmp_path):
    older = made.run(opened)
    same = made.run(opened, pixels=preprocess.facts(opened.manifest), records="/gone")
    assert preprocess.recipe_of(older) == preprocess.recipe_of(same)
    gone = dataclasses.replace(older, records="/gone")
    with pytest.raises(
        run_folder.RunError, match=r"run.json has no image recipe .*no record set in '/gone'"
    ):
        preprocess.recipe_of(gone)
    other = dataclasses.replace(older, records_digest="another")
    with pytest.raises(
        run_folder.RunError, match="holds records other than those the run was trained on"
    ):
        preprocess.recipe_of(other)


def test_records_of_the_first_version_are_understood(tmp_path):
    folder = shutil.copytree(
        fakes.ROOT / "tests/records/format/formats/version_1", tmp_path / "set"
    )
    recipe = preprocess.recipe_of(made.run(record_set.open_set(str(folder))))
    assert recipe.policy == decode.ImagePolicy(8, "stretch") and recipe.encoding == "raw"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"filter": "lanczos"},
            "this version cannot make the run's images: filter must be bicubic",
        ),
        ({"resize": "squeeze"}, "this version cannot make the run's images: resize must be one of"),
        (
            {"encoding": "webp"},
            "this version cannot make the run's images: encoding must be one of",
        ),
        ({"image_size": "32"}, "cannot make the run's images: '>=' not supported"),
    ],
)
def test_another_way_of_making_pixels_is_refused(changes, message):
    with pytest.raises(run_folder.RunError, match=message):
        preprocess.recipe_of(made.run(pixels={**FACTS, **changes}))


def test_what_is_missing_is_named():
    with pytest.raises(run_folder.RunError, match="lacks 'encoding'"):
        preprocess.recipe_of(made.run(pixels={"image_size": 8, "filter": "bicubic"}))


def test_what_may_be_otherwise_is_said():
    versions = {**decode.VERSIONS, "pillow": "1.0"}
    known = {**FACTS, **versions, "boxes": True}
    notes = preprocess.recipe_of(made.run(pixels=known)).notes
    assert [note.partition(",")[0] for note in notes] == [
        "training images were made with pillow 1.0",
        "the run was trained on images cropped to boxes; files are not cropped",
    ]


def test_unusable_files_are_named_in_their_place(tmp_path):
    good = fakes.encoded(fakes.pixels(1))
    root = fakes.tree(tmp_path, {"1.png": b"<html>", "2.png": good, "3.png": b"", "4.png": good})
    recipe = preprocess.recipe_of(made.run(pixels=FACTS))
    found = inputs.find([str(root)]).files
    chunks = list(preprocess.read_all(found, recipe, chunk_size=3))
    errors = [error.partition(":")[0] for chunk in chunks for error in chunk.errors]
    assert errors == ["not_an_image", "", "empty", ""]
    assert [chunk.pixels.shape for chunk in chunks] == [(1, 32, 32, 3)] * 2
