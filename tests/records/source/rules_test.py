import unicodedata

import pytest

from records.format import record_set
from records.source import label_csv, rules, trees
from records.source import listing as sources
from tests import fakes

IMAGE = b"any bytes"


def listing(tmp_path, keys, rule, classes=None, **selection):
    root = fakes.tree(tmp_path / "tree", {key: IMAGE for key in keys})
    return sources.list_images(
        trees.open_tree(str(root)), rule, classes, sources.Selection(**selection)
    )


def named(result):
    return {image.key: image.label for image in result.images}


def csv(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


MASKS = ["p/x_01.jpg", "p/x_02.jpg", "q/y_03.JPG"]
WORN = {"label": {"01": "worn", "02": "worn", "03": "unworn"}}


def test_suffixes_merged_by_a_map(tmp_path):
    result = listing(tmp_path, MASKS, rules.by_suffix(), rules.Classes(WORN))
    assert result.class_names == ("unworn", "worn")
    assert named(result) == {MASKS[0]: "worn", MASKS[1]: "worn", MASKS[2]: "unworn"}
    assert result.settings == {"rule": "suffix", "value_map": WORN}


@pytest.mark.parametrize(
    ("key", "rule", "classes", "message"),
    [
        ("x_04.jpg", rules.by_suffix(), rules.Classes(WORN), "'x_04.jpg': the label '04' is not"),
        (
            "x_04.jpg",
            rules.by_suffix(),
            rules.Classes(names=("01",)),
            "must be one of .*, got '04'",
        ),
        ("x.jpg", rules.by_suffix(), None, r"'x.jpg': the rule \(suffix\) does not give its class"),
        ("x_.jpg", rules.by_suffix(), None, r"'x_.jpg': the rule"),
        ("a/x.jpg", rules.by_pattern("(cat|dog)"), None, r"'a/x.jpg': the rule \(pattern\)"),
        ("x.jpg", rules.by_folder(given_splits=True), None, r"\(split folder, folder\)"),
    ],
)
def test_an_image_that_matches_no_rule_is_named(tmp_path, key, rule, classes, message):
    with pytest.raises(sources.SourceError, match=message):
        listing(tmp_path, [key], rule, classes)


def test_an_image_that_matches_no_rule_may_be_left_out(tmp_path):
    result = listing(tmp_path, [*MASKS, "x.jpg"], rules.by_suffix(), exclude=("x.jpg",))
    assert [(e.key, e.reason) for e in result.excluded] == [("x.jpg", "excluded_by_pattern")]


def test_other_files_that_match_no_rule_are_counted(tmp_path):
    result = listing(tmp_path, [*MASKS, "README"], rules.by_suffix())
    assert [(e.key, e.reason) for e in result.excluded] == [("README", "no_label")]


def test_a_map_may_leave_the_rest_as_it_is(tmp_path):
    csv_rule = rules.by_csv(csv(tmp_path, "path,label\na.jpg,Oct-19\nb.jpg,20-29\n"))
    classes = rules.Classes(rules.parse_map("Oct-19=10-19,*=*"))
    result = listing(tmp_path, ["a.jpg", "b.jpg"], csv_rule, classes)
    assert named(result) == {"a.jpg": "10-19", "b.jpg": "20-29"}


PEOPLE = "path,gender,age\n1_female,female,29\n2_male,male,60\n"
FACES = [f"{p}/{m}.jpg" for p in ("1_female", "2_male") for m in ("mask1", "mask2", "normal")]


def test_one_row_to_many_images_and_a_product_of_attributes(tmp_path):
    rule = rules.by_csv(csv(tmp_path, PEOPLE), label_csv.Columns(attributes=("gender", "age")))
    rule = rules.with_pattern(rule, r"/(?P<mask>mask|incorrect_mask|normal)\d*\.")
    classes = rules.Classes(bands={"age": (30, 60)}, attributes=("mask", "gender", "age"))
    result = listing(tmp_path, FACES, rule, classes)
    assert result.attributes == {
        "mask": ("mask", "normal"),
        "gender": ("female", "male"),
        "age": ("<30", "30-<60", ">=60"),
    }
    assert len(result.class_names) == 12  # also those that no image has
    assert named(result)["1_female/mask2.jpg"] == "mask|female|<30"
    assert named(result)["2_male/normal.jpg"] == "normal|male|>=60"
    assert {image.key: image.group for image in result.images}["2_male/mask1.jpg"] == "2_male"
    for label, name in enumerate(result.class_names):
        values = record_set.attribute_values(result.attributes, label)
        assert rules.JOINER.join(values.values()) == name
        assert all(values[a] in result.attributes[a] for a in result.attributes)


def test_a_pattern_gives_label_group_domain_and_split(tmp_path):
    rule = rules.by_pattern(r"^(?P<split>\w+)/(?P<domain>\w+)/(?P<group>\d+)_(?P<label>[ox])")
    (image,) = listing(tmp_path, ["val/pen/7_o.png"], rule).images
    assert image == sources.SourceImage("val/pen/7_o.png", "o", "7", "pen", "validation")


def test_boxes_are_images_of_their_own(tmp_path):
    text = "path,label,l,t,r,b\na.jpg,cat,1,2,30,40\na.jpg,dog,5.5,0,9,9\n"
    rule = rules.by_csv(csv(tmp_path, text), label_csv.Columns(box=("l", "t", "r", "b")))
    result = listing(tmp_path, ["a.jpg"], rule)
    assert named(result) == {"a.jpg#1,2,30,40": "cat", "a.jpg#5.5,0,9,9": "dog"}
    assert list(result.file_keys) == [b"a.jpg", b"a.jpg"]
    assert result.box.tolist() == [[1, 2, 30, 40], [5.5, 0, 9, 9]]


def test_overrides_and_exclusions_correct_single_files(tmp_path):
    result = listing(
        tmp_path,
        [*MASKS, "stray.jpg"],
        rules.by_suffix(),
        rules.Classes(WORN),
        overrides=csv(tmp_path, "path,label\np/x_01.jpg,unworn\n", "overrides.csv"),
        exclusions=csv(tmp_path, "path,reason\nstray.jpg,a landscape\n", "exclusions.csv"),
    )
    assert named(result)["p/x_01.jpg"] == "unworn"
    assert result.excluded == (
        sources.OmittedFile("stray.jpg", "", "excluded_by_list", "a landscape"),
    )
    assert result.settings["overrides"] == {"p/x_01.jpg": "unworn"}


@pytest.mark.parametrize("which", ["overrides", "exclusions"])
def test_lists_that_name_no_file_are_refused_by_line(tmp_path, which):
    lists = {which: csv(tmp_path, "path,label\np/x_01.jpg,worn\ngone.jpg,worn\n", "list.csv")}
    with pytest.raises(
        sources.SourceError, match=r"list.csv, line 3: 'gone.jpg' is not among the images"
    ):
        listing(tmp_path, MASKS, rules.by_suffix(), **lists)


def test_rows_without_a_file_are_counted_if_that_is_allowed(tmp_path):
    rule = rules.by_csv(csv(tmp_path, "path,label\na.jpg,cat\ngone.jpg,cat\n"))
    result = listing(tmp_path, ["a.jpg"], rule, allow_missing=True)
    assert [(e.key, e.reason) for e in result.excluded] == [("gone.jpg", "missing_file")]


def test_a_file_that_is_left_out_does_not_take_a_name_from_another(tmp_path):
    rule = rules.by_csv(csv(tmp_path, "path,label\n1.jpg,cat\n"), label_csv.Columns(by_name=True))
    result = listing(tmp_path, ["a/1.jpg", "b/1.jpg"], rule, exclude=("a/*",))
    assert named(result) == {"b/1.jpg": "cat"}


@pytest.mark.parametrize(
    ("label", "message"),
    [("25", "label must be one of <30, >=30, got '25'"), (" <30", "has spaces around it")],
)
def test_overrides_are_held_against_the_classes(tmp_path, label, message):
    rows = csv(tmp_path, f"path,label\nx_9.jpg,{label}\n", "overrides.csv")
    classes = rules.Classes(bands={"label": (30.0,)})
    with pytest.raises(sources.SourceError, match=message):
        listing(tmp_path, ["x_9.jpg"], rules.by_suffix(), classes, overrides=rows)


def test_a_product_that_cannot_be_meant_is_refused():
    seen = {name: {str(n) for n in range(400)} for name in ("a", "b")}
    with pytest.raises(sources.SourceError, match="160,000 classes, the limit is 100,000; a alone"):
        rules.Classes(attributes=("a", "b")).ordered(seen)


def test_another_unicode_form_is_hinted_at(tmp_path):
    rule = rules.by_csv(csv(tmp_path, "path,label\n고양이.jpg,cat\n"))
    with pytest.raises(sources.SourceError, match="in another Unicode form"):
        listing(tmp_path, [unicodedata.normalize("NFD", "고양이.jpg")], rule)


def test_names_in_two_unicode_forms_are_kept_and_said(tmp_path):
    forms = [unicodedata.normalize(form, "a/고양이.jpg") for form in ("NFC", "NFD")]
    result = listing(tmp_path, forms, rules.by_folder())
    assert len(result) == 2 and "1 names occur in two Unicode forms" in result.warnings[1]


def test_a_pattern_that_leaves_out_nothing_is_said(tmp_path):
    result = listing(tmp_path, MASKS, rules.by_suffix(), exclude=("*.tif",))
    assert result.warnings == ("--exclude=*.tif matches no file",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules.parse_map("01=worn,02"), "entries from=to, got '02'"),
        (lambda: rules.parse_map("01=a,01=b"), "'01' is in the map twice"),
        (lambda: rules.parse_map("nowhere.csv"), "or a CSV file, got 'nowhere.csv'"),
        (lambda: rules.parse_bands(["age"]), "got 'age'"),
        (lambda: rules.parse_bands(["age=old"]), "got 'age=old'"),
        (lambda: rules.Classes(bands={"age": (60, 30)}), "ascending edges"),
        (lambda: rules.Classes(names=("a", "a")), "must be distinct"),
        (lambda: rules.Classes(attributes=("a", "a")), "must be distinct"),
        (lambda: rules.Classes(bands={"age": (1.0,)}), "'age' have no effect"),
        (lambda: rules.Classes(names=("a",), attributes=("b",)), "got a and b"),
        (lambda: rules.by_pattern("("), "is not a regular expression"),
        (lambda: rules.by_pattern("x"), "must name its groups"),
        (lambda: rules.by_pattern("(x)(y)"), "must name its groups"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_map_from_a_file(tmp_path):
    path = csv(tmp_path, "attribute,from,to\nage,03-Sep,3-9\n,01,worn\n", "map.csv")
    assert rules.parse_map(path) == {"age": {"03-Sep": "3-9"}, "label": {"01": "worn"}}


@pytest.mark.parametrize(
    ("value", "band"), [("29.9", "<30"), ("30", "30-<60"), ("59", "30-<60"), ("60", ">=60")]
)
def test_bands_hold_their_lower_edge(value, band):
    classes = rules.Classes(bands={"label": (30.0, 60.0)})
    assert classes.values("x", rules.Facts({"label": value})) == (band,)


@pytest.mark.parametrize("value", ["old", "nan", "03-Sep"])
def test_values_that_are_no_number_have_no_band(value):
    classes = rules.Classes(bands={"label": (30.0,)})
    with pytest.raises(sources.SourceError, match="must be a number to fall into a band"):
        classes.values("x", rules.Facts({"label": value}))
