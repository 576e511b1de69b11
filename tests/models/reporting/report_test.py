"""What the report says is what the table holds, in JSON and on the page."""

import base64
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from models.reporting import page as report_page
from models.reporting import predictor, report
from records.common import svg as charts
from tests import fakes
from tests.models import made


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"마스크 <b>": 40, "없음": 30})


def table_of(records, wrong=()):
    labels = records.index("test").label
    predicted = np.where(np.isin(np.arange(len(labels)), wrong), 1 - labels, labels)
    confidence = np.linspace(0.6, 0.99, len(labels))[:, None]
    picked = np.eye(2)[predicted]
    probabilities = picked * confidence + (1 - picked) * (1 - confidence)
    return predictor.table(records, "test", probabilities.astype(np.float32))


def test_json_holds_the_scores_and_every_mistake(records, tmp_path):
    said = report.contents(made.run(records), records, "test", table_of(records, wrong=(1, 5)))
    report_page.write(said, records, "test", str(tmp_path))
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
    report_page.write(said, records, "test", str(tmp_path))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "마스크 &lt;b&gt;" in page and "마스크 <b>" not in page
    shown_flags = ("--report=test", "--nofreeze", "&#39;--source=a b&#39;")
    assert all(f"<code>{flag}</code>" in page for flag in shown_flags)
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
    np.testing.assert_array_equal(shown, records.pixels("test", 5))
    assert len(pictures) == 2 and page.count("<svg") == 4


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ((), "gets 14 of 14 images of test right (100.0%); predictions unrelated to the images"),
        (range(0, 14, 2), "(50.0%): consistent with unrelated predictions, z = "),
        (range(14), "fewer than the 7 of chance, so the labels may be swapped"),
    ],
)
def test_the_verdict_is_a_sentence(records, wrong, verdict):
    said = report.contents(made.run(records), records, "test", table_of(records, wrong))
    assert verdict in said["verdict"]


def _alarms(said):
    return {alarm["name"]: alarm["said"] for alarm in said["alarms"]}


def test_images_that_were_trained_on_are_said(records):
    run, table = made.run(records), table_of(records)
    said = report.contents(run, records, "test", table)
    assert said["trained_on"] == 0 and "seen" not in _alarms(said)
    said = report.contents(dataclasses.replace(run, train_split="test"), records, "test", table)
    assert said["trained_on"] == 14 and "trained on 14 of these" in _alarms(said)["seen"]
    moved = report.contents(dataclasses.replace(run, records="/gone"), records, "test", table)
    assert moved["trained_on"] == 0
    gone = dataclasses.replace(run, records_digest="another")
    assert "may have been" in _alarms(report.contents(gone, records, "test", table))["seen"]


def test_a_collapsed_model_is_called_so(records):
    table = table_of(records)
    always = dataclasses.replace(table, probabilities=np.tile([[0.9, 0.1]], (14, 1)))
    verdict = report.contents(made.run(records), records, "test", always)["verdict"]
    assert "it calls every image 마스크 <b>, a collapse to one class" in verdict


def test_a_page_of_many_classes_lists_the_largest_confusions(tmp_path):
    many = fakes.built(tmp_path / "set", {f"{number:02d}": 8 for number in range(62)}, size=8)
    index = many.index("test")
    predicted = np.where(index.label < 2, index.label + 1, index.label)
    table = predictor.table(many, "test", np.eye(62, dtype=np.float32)[predicted])
    said = report.contents(made.run(many), many, "test", table)
    page = report_page.write(said, many, "test", str(tmp_path))
    with open(page, encoding="utf-8") as file:
        text = file.read()
    assert "largest confusions" in text and 'class="confusion"' not in text
    for of, called in (("00", "01"), ("01", "02")):
        assert f'<tr><td>{of}</td><td class="words">{called}</td>' in text


def test_what_is_not_finite_is_no_number_in_json(records, tmp_path):
    table = table_of(records)
    table.probabilities[3] = np.nan
    history = ({**made.run().history[0], "val_loss": np.nan}, made.run().history[1])
    run = made.run(records, history=history)
    report_page.write(report.contents(run, records, "test", table), records, "test", str(tmp_path))
    text = (tmp_path / "report.json").read_text("utf-8")
    assert "NaN" not in text and json.loads(text)["log_loss"] is None
    assert "<h1>" in (tmp_path / "report.html").read_text("utf-8")


def test_the_three_lines_name_their_average(records):
    said = report.contents(made.run(records), records, "test", table_of(records, (1,)))
    verdict, accuracy, macro, *_ = report.headline(said)
    assert verdict == said["verdict"]
    assert accuracy.startswith("accuracy 0.9286 (95 % interval") and "14 images" in accuracy
    assert macro.startswith("macro F1 ") and "chance" in macro


def test_scores_of_another_place_come_with_its_shares(records, tmp_path):
    beside = report.Beside(shares={"마스크 <b>": 1, "없음": 9})
    said = report.contents(made.run(records), records, "test", table_of(records, (1,)), beside)
    assert said["other_shares"]["shares"] == {"마스크 <b>": 0.1, "없음": 0.9}
    recalls = [row["recall"] for row in said["per_class"].values()]
    value = said["other_shares"]["accuracy"]["value"]
    assert value == pytest.approx(0.1 * recalls[0] + 0.9 * recalls[1])
    assert "where the classes are 마스크 <b> 10.0%, 없음 90.0%" in report.headline(said)[3]
    page = report_page.write(said, records, "test", str(tmp_path))
    with open(page, encoding="utf-8") as file:
        assert "Other shares of the classes" in file.read()


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [2.4, 3.6]), (0.012, 0.034, [0.01, 0.035])],
)
def test_ticks_are_round_and_enclose(low, high, ticks):
    found = charts.nice_ticks(low, high)
    assert found[0] == ticks[0] and found[-1] == ticks[-1] and 3 <= len(found) <= 9


def test_charts_leave_out_what_is_not_finite():
    svg = charts.line_chart("Loss & co", [charts.Series("a<b", [1.0, float("nan"), 3.0])])
    assert "Loss &amp; co" in svg and "a&lt;b" in svg and "nan" not in svg
    assert charts.line_chart("Loss", [charts.Series("a", [float("nan")])]) == ""
