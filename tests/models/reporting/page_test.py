"""`report.json` and `report.html`: what is in them, whole, escaped and without a script."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from models.reporting import page, predictor, report
from tests import fakes
from tests.models import made
from tests.models.reporting.report_test import table_of


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"마스크 <b>": 40, "없음": 30})


def test_json_holds_the_scores_and_every_mistake(records, tmp_path):
    said = report.contents(made.run(records), records, "test", table_of(records, wrong=(1, 5)))
    page.write(said, records, "test", str(tmp_path))
    read = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert set(read["accuracy"]) == {"value", "low", "high", "count", "chance"}
    assert read["accuracy"]["value"] == 12 / 14 and read["accuracy"]["count"] == 14
    assert np.sum(read["confusion"]) == 14 and np.trace(read["confusion"]) == 12
    index = records.index("test")
    assert [mistake["key"] for mistake in read["mistakes"]] == [index.key(5), index.key(1)]
    assert read["mistakes"][0]["probability"] > read["mistakes"][1]["probability"]
    assert read["splits"]["train"] == {"마스크 <b>": 24, "없음": 18}


def test_the_page_is_whole_in_itself_and_escapes_names(records, tmp_path):
    run = made.run(records, flags={"report": ["test"], "freeze": False, "source": "a b"})
    said = report.contents(run, records, "test", table_of(records, wrong=(1, 5)))
    page.write(said, records, "test", str(tmp_path))
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "마스크 &lt;b&gt;" in html and "마스크 <b>" not in html
    shown_flags = ("--report=test", "--nofreeze", "&#39;--source=a b&#39;")
    assert all(f"<code>{flag}</code>" in html for flag in shown_flags)
    assert not re.search(r"<script|https?://|src=\"(?!data:)", html)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    np.testing.assert_array_equal(shown, records.pixels("test", 5))
    assert len(pictures) == 2 and html.count("<svg") == 4


def test_a_page_of_many_classes_lists_the_largest_confusions(tmp_path):
    many = fakes.built(tmp_path / "set", {f"{number:02d}": 8 for number in range(62)}, size=8)
    index = many.index("test")
    predicted = np.where(index.label < 2, index.label + 1, index.label)
    table = predictor.table(many, "test", np.eye(62, dtype=np.float32)[predicted])
    said = report.contents(made.run(many), many, "test", table)
    path = page.write(said, many, "test", str(tmp_path))
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "largest confusions" in text and 'class="confusion"' not in text
    for of, called in (("00", "01"), ("01", "02")):
        assert f'<tr><td>{of}</td><td class="words">{called}</td>' in text


def test_what_is_not_finite_is_no_number_in_json(records, tmp_path):
    table = table_of(records)
    table.probabilities[3] = np.nan
    history = ({**made.run().history[0], "val_loss": np.nan}, made.run().history[1])
    run = made.run(records, history=history)
    page.write(report.contents(run, records, "test", table), records, "test", str(tmp_path))
    text = (tmp_path / "report.json").read_text("utf-8")
    assert "NaN" not in text and json.loads(text)["log_loss"] is None
    assert "<h1>" in (tmp_path / "report.html").read_text("utf-8")


def test_scores_at_other_class_shares_have_a_table(records, tmp_path):
    extras = report.ReportExtras(class_shares={"마스크 <b>": 1, "없음": 9})
    said = report.contents(made.run(records), records, "test", table_of(records, (1,)), extras)
    with open(page.write(said, records, "test", str(tmp_path)), encoding="utf-8") as file:
        assert "Scores at other class shares" in file.read()


def test_results_are_predictions_a_report_and_its_summary(records, tmp_path, capsys):
    table, output = table_of(records, wrong=(1,)), tmp_path / "out"
    said = page.write_results(made.run(records), records, "test", table, str(output))
    names = {"predictions-test.csv", "report.json", "report.html"}
    assert {path.name for path in output.iterdir()} == names
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == said["verdict"] and lines[-1] == f"report: {output}/report.html"
