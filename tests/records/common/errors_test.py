"""Tests for records.common.errors."""

import pickle

import pytest

from records.builder.shard_writer import BuildError
from records.common import atomic, errors, worker_pool
from records.format.manifest import ManifestError
from records.source.label_csv import SourceError
from records.source.trees import TreeError


@pytest.mark.parametrize(
    "kind",
    [
        *(errors.DamagedRecordError, atomic.OutputError, worker_pool.WorkerDiedError),
        *(BuildError, ManifestError, SourceError, TreeError),
    ],
)
def test_errors_of_the_user_share_a_base_and_survive_a_pipe(kind):
    error = kind("file.png: what is wrong")
    assert isinstance(error, errors.DatapipeError)
    copy = pickle.loads(pickle.dumps(error))  # as workers send it
    assert (type(copy), str(copy)) == (kind, "file.png: what is wrong")


@pytest.mark.parametrize("kind", [errors.DamagedRecordError, ManifestError, SourceError, TreeError])
def test_wrong_input_is_a_value_error_too(kind):
    assert issubclass(kind, ValueError)
