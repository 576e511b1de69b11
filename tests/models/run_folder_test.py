"""Run folders: what is written comes back, what does not match is refused, one process trains."""

import dataclasses
import subprocess
import sys

import pytest

from models import run_files, run_folder
from models.networks import zoo
from tests import fakes
from tests.models import made


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return fakes.built(tmp_path_factory.mktemp("set"), {"a": 10, "b": 10, "c": 10})


def test_a_run_that_is_saved_comes_back(tmp_path):
    run = made.run(fold=(5, 2, 7), skipped={"a/1.png": 3}, model_options={"dropout": 0.1})
    assert not run_folder.is_finished(str(tmp_path))
    run_folder.save(run, str(tmp_path))
    assert run_folder.is_finished(str(tmp_path))
    assert run_folder.load(str(tmp_path)) == run


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "run.json is damaged: JSONDecodeError"),
        (b"\xff", "run.json is damaged: UnicodeDecodeError"),
        (b"[]", "run.json is damaged: TypeError"),
        (b"{}", "run.json is damaged: KeyError: 'class_names'"),
        (b'{"class_names": [], "history": []}', "run.json is damaged: TypeError"),
    ],
)
def test_a_damaged_run_is_named(tmp_path, content, said):
    (tmp_path / run_files.RUN).write_bytes(content)
    with pytest.raises(run_folder.RunError, match=said):
        run_folder.load(str(tmp_path))


def test_a_folder_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(run_folder.RunError, match=r"train one with python -m models.train_main"):
        run_folder.load(str(tmp_path))
    (tmp_path / "fold-00").mkdir()
    run_folder.save(made.run(), str(tmp_path / "fold-00"))
    with pytest.raises(run_folder.RunError, match=r"subfolders hold runs, such as .*/fold-00"):
        run_folder.load(str(tmp_path))


def test_the_best_weights_come_back(tmp_path):
    model, run = zoo.build("lenet", 3, (24, 24, 3)), made.run(image_size=24)
    with pytest.raises(run_folder.RunError, match=r"best.weights.h5: the file is missing"):
        run_folder.load_model(run, str(tmp_path))
    model.save_weights(tmp_path / run_files.BEST)
    found = run_folder.load_model(run, str(tmp_path))
    pairs = zip(model.get_weights(), found.get_weights(), strict=True)
    assert all((one == other).all() for one, other in pairs)
    (tmp_path / run_files.BEST).write_bytes(b"torn")
    with pytest.raises(run_folder.RunError, match="cannot read the weights"):
        run_folder.load_model(run, str(tmp_path))
    with pytest.raises(run_folder.RunError, match="unknown model 'x'; known are convnet"):
        run_folder.load_model(dataclasses.replace(run, model="x"), str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"class_names": ("a", "b", "d")}, r"only in the model \['d'\], only in the .* \['c'\]"),
        ({"class_names": ("a", "c", "b")}, "order of the classes differs: a, c, b in the model"),
        ({"image_size": 32}, "image sizes differ: 32 pixels in the model, 16 in the records"),
    ],
)
def test_a_run_that_does_not_match_the_records_is_refused(records, fields, said):
    run = made.run(records)
    run_folder.check_fits(run, records.manifest)
    with pytest.raises(run_folder.RunError, match=said):
        run_folder.check_fits(dataclasses.replace(run, **fields), records.manifest)


def test_images_that_were_trained_on_are_counted(records):
    run = made.run(records)
    total = len(records.index("train").label)
    assert run_folder.num_trained_on(run, records, "train") == total
    assert run_folder.num_trained_on(run, records, "test") == 0
    gone = dataclasses.replace(run, records="/nowhere", records_digest="other")
    assert run_folder.num_trained_on(gone, records, "test") is None


@pytest.mark.slow
def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path):
    code = f"from models import run_folder\nwith run_folder.locked({str(tmp_path)!r}): pass"
    with run_folder.locked(str(tmp_path)):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=fakes.ROOT, capture_output=True, text=True
        )
    assert "is locked: another process is training in it" in done.stderr
    with run_folder.locked(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (True, "--x"),
        (False, "--nox"),
        (["a", "b"], "--x=a,b"),
        (0.5, "--x=0.5"),
        ("a b", "'--x=a b'"),
    ],
)
def test_flags_as_on_a_command_line(value, flag):
    assert run_folder.flag("x", value) == flag
