import os

import pytest

from records.source import listing as sources
from records.source import trees
from tests import fakes

PNG = fakes.encoded(fakes.pixels(0))


def test_folders_name_the_class(tmp_path):
    fakes.tree(
        tmp_path,
        {
            "고양이/사진 1.png": PNG,
            "dog/a/b/deep.jpg": PNG,
            "dog/.hidden.png": PNG,
            "dog/Thumbs.db": b"x",
            "dog/notes.html": b"x",  # content decides later, in the build
            "ORIGIN.txt": b"x",
        },
    )
    listing = sources.from_folders(str(tmp_path))
    assert [(image.key, image.label) for image in listing.images] == [
        ("dog/a/b/deep.jpg", "dog"),
        ("dog/notes.html", "dog"),
        ("고양이/사진 1.png", "고양이"),
    ]
    assert {(e.key, e.label, e.reason) for e in listing.excluded} == {
        ("ORIGIN.txt", "", "no_label"),
        ("dog/.hidden.png", "dog", "hidden"),
        ("dog/Thumbs.db", "dog", "hidden"),
    }


def test_every_kind_of_file_is_listed_and_none_blocks(tmp_path):
    fakes.tree(tmp_path, {"a/real.png": PNG})
    os.mkfifo(tmp_path / "a/pipe.png")
    os.symlink("nowhere", tmp_path / "a/dangling.png")
    os.symlink("real.png", tmp_path / "a/link.png")
    os.symlink("..", tmp_path / "a/loop")  # would never end if it were followed
    (tmp_path / "a/folder.png").mkdir()
    listing = sources.from_folders(str(tmp_path))
    assert [image.key for image in listing.images] == ["a/link.png", "a/real.png"]
    assert {e.key: e.reason for e in listing.excluded} == {
        "a/pipe.png": "not_a_regular_file",
        "a/dangling.png": "dangling_link",
        "a/loop": "linked_folder",
    }


def test_names_that_are_not_utf8_survive(tmp_path):
    os.makedirs(tmp_path / "a")
    path = os.fsencode(tmp_path) + b"/a/\xff\xfe.png"
    with open(path, "wb") as file:
        file.write(PNG)
    (image,) = sources.from_folders(str(tmp_path)).images
    assert os.fsencode(image.key) == b"a/\xff\xfe.png"


def test_patterns_leave_out(tmp_path):
    fakes.tree(tmp_path, {"a/1.png": PNG, "a/2.png": PNG, "stray.png": PNG})
    listing = sources.from_folders(str(tmp_path), exclude=["*/2.png", "stray.*"])
    assert [image.key for image in listing.images] == ["a/1.png"]
    assert {e.reason for e in listing.excluded} == {"excluded_by_pattern"}


def test_a_class_folder_that_is_a_link_is_refused(tmp_path):
    fakes.tree(tmp_path, {"tree/a/1.png": PNG, "elsewhere/2.png": PNG})
    os.symlink("../elsewhere", tmp_path / "tree/b")
    with pytest.raises(sources.SourceError, match="class folder 'b' is a link, and"):
        sources.from_folders(str(tmp_path / "tree"))
    listing = sources.from_folders(str(tmp_path / "tree"), exclude=["b"])
    assert listing.excluded == (sources.OmittedFile("b", "", "excluded_by_pattern", "b"),)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"stray.PNG": PNG, "a/1.png": PNG},
            "'stray.PNG': the rule .folder. does not give its class",
        ),
        ({"readme.txt": b"x"}, r"no image found in .* \(1 files excluded\)"),
    ],
)
def test_trees_that_say_no_label_are_refused(tmp_path, files, message):
    fakes.tree(tmp_path, files)
    with pytest.raises(sources.SourceError, match=message):
        sources.from_folders(str(tmp_path))


def test_a_missing_folder_is_refused():
    with pytest.raises(trees.TreeError, match="must be a folder, a zip or a tar, got 'nowhere'"):
        sources.from_folders("nowhere")


def csv_listing(tmp_path, text, encoding="", **arguments):
    fakes.tree(tmp_path / "tree", {"a/1.png": PNG, "b 한/2.png": PNG, "left.txt": b""})
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return sources.from_csv(
        str(tmp_path / "tree"), str(tmp_path / "labels.csv"), encoding=encoding, **arguments
    )


def test_csv_names_label_group_and_domain(tmp_path):
    text = "\ufeffpath,label,group,domain\na/1.png,O,p1,hand\nb 한/2.png,X,,\n"
    listing = csv_listing(tmp_path, text)
    assert [(i.key, i.label, i.group, i.domain) for i in listing.images] == [
        ("a/1.png", "O", "p1", "hand"),
        ("b 한/2.png", "X", None, ""),
    ]
    assert [(e.key, e.reason) for e in listing.excluded] == [("left.txt", "not_in_csv")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na/9.png,O\n", "line 2: 'a/9.png' is not a file in"),
        ("path,label\n../labels.csv,O\n", r"line 2: '\.\./labels.csv' is not a file in"),
    ],
)
def test_rows_that_name_no_file_are_refused_by_line(tmp_path, text, message):
    with pytest.raises(sources.SourceError, match=message):
        csv_listing(tmp_path, text)
