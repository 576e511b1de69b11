"""Tables of predictions as files, side by side, and the labels they speak against."""

import csv
import dataclasses
import os

import numpy as np
import pytest

from models.metrics.table import Table
from models.reporting import predictions

NAMES = ("O", "쓴 b", 'x,"y"')
KEYS = (
    "plain.png",
    'a,"b"\n\r\nc\rd.png',
    "한글/사진.png",
    os.fsdecode(b"\xff\x80/\xec.png"),
    "",
    "\r",
)


def table(keys=KEYS, seed=0, num_classes=3):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(num_classes, 0.1), len(keys)).astype(np.float32)
    labels = rng.integers(0, num_classes, len(keys)).astype(np.int32)
    domains = tuple(("", "길", "a,b")[number % 3] for number in range(len(keys)))
    groups = rng.integers(-9, 1 << 40, len(keys))
    return Table(tuple(keys), domains, groups, labels, probabilities)


def assert_same(a, b):
    assert (a.keys, a.domains) == (b.keys, b.domains)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.groups, b.groups)
    assert a.probabilities.dtype == b.probabilities.dtype == np.float32
    assert a.probabilities.tobytes() == b.probabilities.tobytes()


@pytest.mark.parametrize("keys", [KEYS, KEYS[:1], ()])
def test_what_is_written_is_read(tmp_path, keys):
    predictions.write(table(keys), NAMES, tmp_path / "p.csv")
    found, names = predictions.read(tmp_path / "p.csv")
    assert names == NAMES and found.labels.dtype == np.int32
    assert_same(found, table(keys))
    assert os.listdir(tmp_path) == ["p.csv"]


def test_every_float32_comes_back_to_the_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 1 << 32, (3000, 4), np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values).all(1)]
    values[0] = [0, -0.0, 1e-45, 1 - 2**-24]
    keys = tuple(map(str, range(len(values))))
    zeros = np.zeros(len(keys), np.int32)
    wanted = Table(keys, ("",) * len(keys), zeros, zeros, values)
    predictions.write(wanted, "abcd", tmp_path / "p.csv")
    assert_same(predictions.read(tmp_path / "p.csv")[0], wanted)


def test_a_file_says_what_was_predicted_by_name(tmp_path):
    values = np.array([[0.25, 0.75], [1, 0]], np.float32)
    wanted = Table(
        ("k,1", os.fsdecode(b"\xff")), ("", "d"), np.array([5, 7]), np.array([0, 0]), values
    )
    predictions.write(wanted, ("O", "X"), tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_bytes() == (
        b'"key","domain","group","label","predicted","p:O","p:X"\n'
        b'"k,1","","5","O","X","0.25","0.75"\n'
        b'"\xff","d","7","O","O","1","0"\n'
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("key,", "kex,", "line 1: the columns must be key, domain, group, label, predicted and"),
        ("p:O,p:X", "p:O,X", "line 1: the columns must be"),
        ("p:X", "p:O", r"line 1: class names must be distinct, got \['O', 'O'\]"),
        ("k1,d,1,O", "k1,d,1,Q", "line 2: a class must be one of O, X, got 'Q'"),
        ("0.75\n", "0.75,1\n", "line 2: a line must have 7 fields, got 8"),
        ("d,1", "d,x", "line 2: invalid literal for int"),
        ("0.25", "0.2z", "line 2: could not convert string to float: '0.2z'"),
        ("0.75", "0.15", "line 2: 'X' is not the most probable class"),
        (",0.5\n", ",0.5", "line 3: the file is truncated: its last line has"),
        (",0.5,0.5\n", "", "line 3: a line must have 7 fields, got 5"),
        ("k2", '"k2', "line 3: unexpected end of data"),
        ("k2", '"k"2', "line 3: ',' expected after '\"'"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, old, new, message):
    text = "key,domain,group,label,predicted,p:O,p:X\nk1,d,1,O,X,0.25,0.75\nk2,d,2,X,O,0.5,0.5\n"
    predictions.read(_written(tmp_path / "p.csv", text))
    assert old in text
    with pytest.raises(ValueError, match=rf"p\.csv, {message}"):
        predictions.read(_written(tmp_path / "p.csv", text.replace(old, new)))


def _written(path, text):
    path.write_text(text, "utf-8")
    return path


def test_an_empty_file_is_damaged(tmp_path):
    with pytest.raises(ValueError, match=r"line 1: the columns must be .* got none"):
        predictions.read(_written(tmp_path / "p.csv", ""))


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({}, ("a", "b", "a"), r"class names must be distinct, at least one, got \['a', 'b', 'a'\]"),
        ({}, ("a", "b"), r"6 keys and 2 class names .* got 6, 6, 6 and \[6, 3\]"),
        ({"keys": KEYS[1:]}, NAMES, "a table of 5 keys and 3 class names must have 5 domains"),
        ({"domains": ()}, NAMES, "got 0, 6, 6 and"),
        ({"labels": np.array([0, 1, 2, 3, 0, 0])}, NAMES, r"labels must lie in 0\.\.2, got 3 for"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_and_nothing_written(tmp_path, change, names, message):
    wrong = Table(**{**vars(table()), **change})
    with pytest.raises(ValueError, match=message):
        predictions.label_issues(wrong, names)
    with pytest.raises(ValueError, match=message):
        predictions.write(wrong, names, tmp_path / "p.csv")
    assert not os.listdir(tmp_path)


def test_joined_tables_have_the_same_keys_in_the_order_of_the_first():
    a, b = table("abcd", seed=1), table("xdba", seed=2)
    b = dataclasses.replace(b, labels=np.array([0, a.labels[3], a.labels[1], a.labels[0]]))
    left, right = predictions.joined(a, b)
    assert left.keys == right.keys == ("a", "b", "d")
    np.testing.assert_array_equal(left.probabilities, a.probabilities[[0, 1, 3]])
    np.testing.assert_array_equal(right.probabilities, b.probabilities[[3, 2, 1]])
    assert left.labels.tolist() == right.labels.tolist() == a.labels[[0, 1, 3]].tolist()


def with_labels(keys, labels, num_classes=3):
    values = np.full((len(keys), num_classes), 1 / num_classes, np.float32)
    return Table(tuple(keys), ("",) * len(keys), np.arange(len(keys)), np.array(labels), values)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (
            with_labels("ab", [0, 0]),
            with_labels("cde", [0, 0, 0]),
            "a key in common, got 2 and 3 different",
        ),
        (
            with_labels("abc", [0, 1, 2]),
            with_labels("cba", [1, 1, 1]),
            r"'a' has 0 and 1 \(2 of 3 images differ\)",
        ),
        (with_labels("aba", [0, 0, 0]), with_labels("a", [0]), "'a' is in rows 0 and 2"),
        (
            with_labels("a", [0]),
            with_labels("a", [0], 2),
            r"the same number of classes, got \[3, 2\]",
        ),
    ],
)
def test_tables_that_do_not_belong_together_are_not_joined(a, b, message):
    with pytest.raises(ValueError, match=message):
        predictions.joined(a, b)


def test_pooled_tables_are_one_below_the_other():
    parts = [table("ab", 1), table("c", 2), table((), 3)]
    whole = predictions.pooled(parts)
    assert whole.keys == ("a", "b", "c") and whole.domains == ("", "길", "")
    np.testing.assert_array_equal(whole.labels, [*parts[0].labels, *parts[1].labels])
    np.testing.assert_array_equal(whole.probabilities[2], parts[1].probabilities[0])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "at least 1 table to pool, got 0"),
        ([table("ab"), table("cb")], "keys must be distinct, 'b' is in rows 1 and 3"),
        ([table("a"), table("b", num_classes=2)], r"the same number of classes, got \[3, 2\]"),
    ],
)
def test_tables_that_do_not_belong_together_are_not_pooled(tables, message):
    with pytest.raises(ValueError, match=message):
        predictions.pooled(tables)


DOUBTED = Table(
    keys=("right", "a bit wrong", "a tie", "wrong,\udcff", "as wrong as the first"),
    domains=("",) * 5,
    groups=np.arange(5),
    labels=np.array([0, 1, 2, 2, 2]),
    probabilities=np.array(
        [[0.75, 0.25, 0], [0.5, 0.25, 0.25], [0.5, 0, 0.5], [1, 0, 0], [0, 0.625, 0.375]],
        np.float32,
    ),
)


def test_labels_that_the_predictions_contradict_come_by_strength():
    found = predictions.label_issues(DOUBTED, NAMES)
    assert [line["key"] for line in found] == [
        "wrong,\udcff",
        "a bit wrong",
        "as wrong as the first",
    ]
    assert found[1] == {
        "key": "a bit wrong",
        "label": NAMES[1],
        "predicted": NAMES[0],
        "probability_of_label": 0.25,
        "probability_of_predicted": 0.5,
    }


def test_suspicious_labels_are_written_as_they_are_said(tmp_path):
    wanted = predictions.label_issues(DOUBTED, NAMES)
    predictions.write_label_issues(wanted, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = list(csv.DictReader(file))
    assert [{**line, **_numbers(line)} for line in lines] == wanted


def _numbers(line):
    return {name: float(value) for name, value in line.items() if name.startswith("probability")}


def test_no_suspicious_label_is_a_file_with_a_header(tmp_path):
    assert predictions.label_issues(table(()), NAMES) == []
    predictions.write_label_issues([], tmp_path / "s.csv")
    header = '"key","label","predicted","probability_of_label","probability_of_predicted"\n'
    assert (tmp_path / "s.csv").read_text("utf-8") == header


def test_predictions_are_found_in_the_folder_of_a_run(tmp_path):
    predictions.write(table(), NAMES, predictions.path(str(tmp_path), "test"))
    assert_same(predictions.load(str(tmp_path), "test"), table())
    with pytest.raises(ValueError, match=r"no predictions of 'train' in .*predictions-train\.csv"):
        predictions.load(str(tmp_path), "train")
