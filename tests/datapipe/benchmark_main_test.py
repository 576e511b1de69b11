import json

import pytest
from absl import flags
from absl.testing import flagsaver

from datapipe import benchmark_main
from datapipe.benchmark import numpy_baselines as arrays
from datapipe.benchmark import scaling as curve
from datapipe.benchmark import systems
from datapipe.profile import timing
from records.common import cli
from tests import fakes


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    return fakes.built(folder, {"a": 30, "b": 10}, encoding="png").folder


@pytest.fixture
def run(records, tmp_path, monkeypatch):
    """Returns what runs the binary in this process, but for the measuring."""

    def rates(ways, *_):
        return {way.name: [2.0 + k, 3.0 + k] for k, way in enumerate(ways)}

    monkeypatch.setattr(systems, "rates", rates)
    flags.FLAGS.mark_as_parsed()

    def with_flags(*arguments, **values):
        given = {"records": records, "output": str(tmp_path), "batch_size": 8, "rows": 40}
        given |= {
            "repeats": 2,
            "seconds": 0.01,
            "tasks": ["READ"],
            "curve": False,
            "split": "train",
        }
        with flagsaver.flagsaver(**{**given, **values}):
            return benchmark_main.main(arguments)

    return with_flags


def test_rows_machine_and_chart_are_written(run, tmp_path, capsys):
    assert run(tasks=["STREAM", "READ"]) == cli.DONE
    found = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))
    by_name = {(row["task"], row["system"]): row for row in found["rows"]}
    assert list(dict.fromkeys(task for task, _ in by_name)) == ["READ", "STREAM"]
    for row in by_name.values():
        assert 0 < row["lowest"] <= row["images_per_second"] <= row["highest"]
        assert row["repeats"] == 2 and row["ratio"] > 0
    assert by_name["READ", "numpy.take"]["ratio"] == 1
    assert by_name["READ", "datapipe"]["base"] == "numpy.take"
    assert found["machine"]["rows"] == 40 and found["machine"]["threads"] >= 1
    assert found["new_process"] == [] and "curves" not in found
    said = capsys.readouterr().out
    assert "READ: shuffled batches of stored pixels; more is better" in said
    assert "times numpy.take" in said and "times expert tf.data" in said
    drawn = (tmp_path / "benchmark.png").exists()
    assert drawn == (arrays.optional("matplotlib") is not None) != ("charts are left out" in said)


def test_what_is_missing_is_said_and_left_out(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(arrays, "optional", lambda name: None)
    assert run(tasks=["READ_JPEG"]) == cli.DONE
    said = capsys.readouterr().out
    assert "numpy + cv2 and cv2.imdecode are left out" in said
    assert "pip install opencv-python-headless" in said and "pip install matplotlib" in said
    found = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))
    assert {row["base"] for row in found["rows"]} == {"tf.data decode_jpeg"}
    assert not (tmp_path / "benchmark.png").exists()


def test_new_processes_stand_apart_from_rates(run, tmp_path, monkeypatch, capsys):
    asked = []

    def rows(stage, tasks, repeats):
        asked.append((list(tasks), repeats))
        return {"MEMORY": timing.rows("MEMORY", "mebibytes", {"datapipe": [5.0]}, ["datapipe"])}

    monkeypatch.setattr(benchmark_main.cold_start, "rows", rows)
    assert run(tasks=["MEMORY", "READ"], repeats=5) == cli.DONE
    found = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))
    assert asked == [(["MEMORY"], 3)]  # new processes are dear
    assert {row["task"] for row in found["rows"]} == {"READ"}
    assert [row["mebibytes"] for row in found["new_process"]] == [5.0]
    assert "less is better" in capsys.readouterr().out


def test_curves_are_written_beside_the_rest(run, tmp_path, monkeypatch, capsys):
    small, large = curve.Point("rows", 20, 8), curve.Point("rows", 10**12, 8)
    row = timing.Row("READ", "datapipe", "images_per_second", 2.0, 1.0, 3.0, 3, 1.0, "datapipe")
    curves = curve.Curves([(small, row)], [large])
    monkeypatch.setattr(curve, "measured", lambda *_: curves)
    assert run(tasks=[], curve=True) == cli.DONE
    found = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))
    assert found["rows"] == [] and found["curves"]["rows"][0]["num_rows"] == 20
    assert "1,000,000,000,000 rows of 8x8 are left out" in capsys.readouterr().out
    assert (tmp_path / "curve.png").exists() == (arrays.optional("matplotlib") is not None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output": None}, "--output must be given"),
        ({"records": "nowhere"}, "--records must be an existing folder, got 'nowhere'"),
        ({"split": "x"}, "--split must be one of train, validation, test, got 'x'"),
        ({"rows": 0}, "--rows must be at least 1, got 0"),
        ({"batch_size": 0}, "--batch_size must be at least 1, got 0"),
        ({"batch_size": 41}, "--batch_size must not exceed 40 --rows"),
        ({"repeats": 0}, "--repeats must be at least 1, got 0"),
        ({"seconds": 0.0}, "--seconds must be above 0 and finite, got 0.0"),
        ({"seconds": float("nan")}, "--seconds must be above 0 and finite, got nan"),
        ({"tasks": ["READ", "WRITE"]}, "--tasks must be one of READ, .*, MEMORY, got 'WRITE'"),
        ({"tasks": []}, "--tasks must name a task where --curve is not given"),
    ],
)
def test_what_cannot_be_meant_is_refused(run, values, message):
    with pytest.raises(cli.UsageError, match=message):
        run(**values)


def test_a_split_without_rows_is_refused(run, tmp_path):
    records = fakes.built(tmp_path, {"a": 1, "b": 1}, ratios={"train": 0.98, "test": 0.02})
    with pytest.raises(cli.UsageError, match="--split must name one with rows, got 'test'"):
        run(records=records.folder, split="test")


def test_arguments_that_are_no_flags_are_refused(run):
    with pytest.raises(cli.UsageError, match="only flags are understood, got 'oops'"):
        run("oops")
