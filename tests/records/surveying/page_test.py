"""The page shows each finding with its images, small, and no pair twice."""

from records.inspect import contact_sheet
from records.surveying import facts, page
from tests.records.surveying import made


def test_pictures_are_kept_small_and_of_two_duplicates_one_pair_is_shown(tmp_path, monkeypatch):
    files = made.clean()
    files["soft/same.png"] = files["edgy/004.png"]
    table = made.table_of(tmp_path, files, image_size=200)
    found = [made.by_kind(table)["equal_labels_differ"]]
    said = page.contents(facts.facts(table), found, 0.15)
    strips, strip = [], contact_sheet.strip
    monkeypatch.setattr(
        contact_sheet, "strip", lambda images, edge: strips.append(images) or strip(images, edge)
    )
    page.write(said, found, table, str(tmp_path / "out"))
    assert [len(images) for images in strips] == [2, 12, 12, 12]
    assert {image.shape for images in strips for image in images} == {(96, 96, 3)}
