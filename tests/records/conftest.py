"""A small record set to look into, and a copy of it to damage."""

import shutil

import pytest

from tests import fakes


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    fakes.built(root, {"a": 200, "b": 200}, size=8)
    return root / "records"


@pytest.fixture
def records(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "records")
