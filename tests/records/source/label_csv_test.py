"""Tests for records.source.label_csv."""

import pytest

from records.source import label_csv, rules

BOXES = label_csv.Columns(box=("l", "t", "r", "b"))


def written(tmp_path, content, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def table(tmp_path, content, columns=None, encoding=""):
    columns = columns or label_csv.Columns()
    return label_csv.Table(written(tmp_path, content), columns, encoding=encoding)


def test_a_row_names_label_group_domain_and_split(tmp_path):
    text = "path,label,group,domain,split\na.jpg,cat,p1,pen,train\nb 한.jpg,dog,,,\n"
    found = table(tmp_path, text)
    assert found.find("a.jpg") == (label_csv.Facts({"label": "cat"}, "p1", "pen", "train"),)
    assert found.find("b 한.jpg") == (label_csv.Facts({"label": "dog"}),)
    assert found.find("c.jpg") == ()


@pytest.mark.parametrize(
    ("key", "facts"),
    [
        ("cats/1.jpg", [("cat", "cats")]),  # the files of a folder are one group
        ("cats/old/2.jpg", [("lynx", "mine")]),  # the nearest folder, and the group it names
        ("dogs/3.jpg", [("dog", "dogs")]),  # named with a slash
        ("win/x/4.jpg", [("fox", None)]),  # a path of Windows
    ],
)
def test_a_row_may_name_a_folder(tmp_path, key, facts):
    text = "path,label,group\ncats,cat,\ncats/old,lynx,mine\ndogs/,dog,\nwin\\x\\4.jpg,fox,\n"
    found = table(tmp_path, text).find(key)
    assert [(fact.values["label"], fact.group) for fact in found] == facts


def test_rows_that_name_no_file_are_told(tmp_path):
    found = table(tmp_path, "path,label\na.jpg,cat\ngone.jpg,cat\n")
    found.find("a.jpg")
    assert list(found.unmatched()) == [(3, "gone.jpg")]


def test_names_alone_may_be_compared(tmp_path):
    text = "path,label\ntrain/1.jpg,cat\nC:\\old\\2.jpg,dog\n"
    found = table(tmp_path, text, label_csv.Columns(by_name=True))
    assert found.find("x/1.jpg")[0].values == {"label": "cat"}
    assert found.find("2.jpg")[0].values == {"label": "dog"}
    with pytest.raises(label_csv.SourceError, match=r"line 2: '1.jpg' may be 'x/1.jpg' or 'y/1"):
        found.find("y/1.jpg")


def test_several_boxes_are_several_images(tmp_path):
    text = "path,label,l,t,r,b\na.jpg,cat,1,2,30,40\na.jpg,dog,5.5,0,9,9\n"
    boxes = [fact.box for fact in table(tmp_path, text, BOXES).find("a.jpg")]
    assert boxes == [(1, 2, 30, 40), (5.5, 0, 9, 9)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'path'"),
        ("file,label\na.jpg,O\n", r"no column 'path'; its header, .* has 'file', 'label'"),
        ("path,label,label\n", "the header has the column 'label' twice"),
        ("path,label\na.jpg,\n", "line 2: the column 'label' is empty"),
        ("path,label\n,cat\n", "line 2: the column 'path' is empty"),
        ("path,label\na.jpg,O\na.jpg,X\n", "line 3: 'a.jpg' is named twice"),
        ("path,label\na.jpg,O,more\n", "line 2: 3 values under 2 columns"),
        ("path,label\na.jpg, cat\n", "line 2: label ' cat' has spaces around it"),
        ("path,label\na.jpg,c\0t\n", "line 2: contains a NUL byte|line 2: line contains NUL"),
        ('path,label\n"a.jpg,O\n', "line 2: unexpected end of data"),
    ],
)
def test_wrong_rows_are_refused_by_line(tmp_path, text, message):
    with pytest.raises(label_csv.SourceError, match=rf"labels\.csv.*({message})"):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.jpg,cat,1,2,x,4", "line 2: a box must be four numbers"),
        ("a.jpg,cat,9,2,3,4", "line 2: a box must have left < right"),
        ("a.jpg,cat,nan,2,3,4", "line 2: a box must have left < right"),
        ("a.jpg,cat,1,2,3,4\na.jpg,cat,1,2,3,4", "line 3: 'a.jpg' is named twice"),
    ],
)
def test_wrong_boxes_are_refused_by_line(tmp_path, row, message):
    with pytest.raises(label_csv.SourceError, match=message):
        table(tmp_path, f"path,label,l,t,r,b\n{row}\n", BOXES)


@pytest.mark.parametrize(
    "columns",
    [
        label_csv.Columns(group="gruop", required=("gruop",)),
        label_csv.Columns(attributes=("gruop",)),
        label_csv.Columns(box=("path", "path", "path", "gruop")),
        label_csv.Columns(label="gruop"),
    ],
)
def test_a_column_that_was_named_must_be_there(tmp_path, columns):
    with pytest.raises(label_csv.SourceError, match="no column 'gruop'"):
        table(tmp_path, "path,label,group\na.jpg,O,p\n", columns)


@pytest.mark.parametrize(
    ("mark", "encoding", "given"),
    [
        (b"\xef\xbb\xbf", "utf-8", ""),
        (b"\xff\xfe", "utf-16-le", ""),
        (b"", "utf-8", ""),
        (b"", "cp949", "cp949"),
    ],
)
def test_the_encoding_is_that_of_the_mark_or_as_given(tmp_path, mark, encoding, given):
    content = mark + "path,label\n가.jpg,나\n".encode(encoding)
    assert table(tmp_path, content, encoding=given).find("가.jpg")[0].values == {"label": "나"}


@pytest.mark.parametrize(
    "read", [rules.by_csv, rules.parse_map, lambda path: label_csv.key_table(path, "label")]
)
def test_another_encoding_is_refused_with_the_remedy(tmp_path, read):
    path = written(tmp_path, "path,label\n가.jpg,나\n".encode("cp949"))
    message = "save it as UTF-8 or, for --labels or --tags, name the encoding with --csv_encoding"
    with pytest.raises(label_csv.SourceError, match=message):
        read(path)


def test_a_key_table_has_line_and_value(tmp_path):
    path = written(tmp_path, "path,reason\na.jpg,old\n\nb.jpg,\n")
    rows = label_csv.key_table(path, "reason", needed=False)
    assert rows == {"a.jpg": (2, "old"), "b.jpg": (4, "")}
    with pytest.raises(label_csv.SourceError, match="line 4: the column 'reason' is empty"):
        label_csv.key_table(path, "reason")
