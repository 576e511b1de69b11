"""TensorFlow Datasets reads every row, where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from records.export import export
from tests.records import made

READ_WITH_TFDS = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
rows = []
for split in builder.info.splits:
    for example in tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False)):
        image = example.pop("image")
        label = builder.info.features["label"].int2str(int(example.pop("label")))
        texts = {name: value.hex() for name, value in example.items()}
        rows.append([split, str(image.dtype), image.shape, image.tobytes().hex(), label, texts])
print(json.dumps(rows))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_datasets") is None,
    reason="tensorflow-datasets is not installed",
)
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_tensorflow_datasets_reads_every_row(tmp_path, encoding):
    opened = made.record_set_of(tmp_path / "set", made.rows(made.ODD_KEYS), encoding=encoding)
    export.export(opened, str(tmp_path / "out"), "tfds")
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_TFDS, str(tmp_path / "out")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = iter(json.loads(done.stdout))
    for split in opened.manifest.splits:
        index = opened.index(split)
        for row in range(len(index)):
            name, dtype, shape, pixels, label, texts = next(rows)
            assert (name, dtype, shape) == (split, "uint8", [made.SIZE, made.SIZE, 3])
            assert pixels == opened.pixels(split, row).tobytes().hex()
            assert label == opened.manifest.class_names[index.label[row]]
            assert bytes.fromhex(texts["key"]) == index.keys[row]
            domain = opened.manifest.domains[index.domain[row]]
            assert bytes.fromhex(texts["domain"]).decode() == domain
            assert bytes.fromhex(texts["group"]).startswith(b"group ")
    assert next(rows, None) is None


def test_class_names_that_would_become_one_are_refused(tmp_path):
    opened = made.record_set_of(
        tmp_path / "set", made.rows([b"a", b"b", b"c"]), class_names=("x\n", "x\\n")
    )
    with pytest.raises(ValueError, match="unprintable"):
        export.export(opened, str(tmp_path / "out"), "tfds")
    assert os.listdir(tmp_path) == ["set"]
