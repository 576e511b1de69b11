"""What the report says is what the table holds."""

import dataclasses

import numpy as np
import pytest

from models.reporting import predictor, report
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


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        (
            (),
            "14 of 14 test images correctly (100.0%); the chance level is about 7",
        ),
        (range(0, 14, 2), "(50.0%): consistent with chance, z = "),
        (range(14), "below the chance level of 7, so the labels may be swapped"),
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
    assert "all are predicted as 마스크 <b>, the model has collapsed to one class" in verdict


def test_the_three_lines_name_their_average(records):
    said = report.contents(made.run(records), records, "test", table_of(records, (1,)))
    verdict, accuracy, macro, *_ = report.headline(said)
    assert verdict == said["verdict"]
    assert accuracy.startswith("accuracy 0.9286 (95 % interval") and "14 images" in accuracy
    assert macro.startswith("macro F1 ") and "chance" in macro


def test_scores_of_another_place_come_with_its_shares(records):
    extras = report.ReportExtras(class_shares={"마스크 <b>": 1, "없음": 9})
    said = report.contents(made.run(records), records, "test", table_of(records, (1,)), extras)
    assert said["other_shares"]["shares"] == {"마스크 <b>": 0.1, "없음": 0.9}
    recalls = [row["recall"] for row in said["per_class"].values()]
    value = said["other_shares"]["accuracy"]["value"]
    assert value == pytest.approx(0.1 * recalls[0] + 0.9 * recalls[1])
    assert "at class shares 마스크 <b> 10.0%, 없음 90.0%" in report.headline(said)[3]
