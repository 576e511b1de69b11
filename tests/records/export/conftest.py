"""Record sets to export."""

import pytest

from tests.records import made


@pytest.fixture(scope="package")
def odd(tmp_path_factory):
    """Returns a set whose keys are hard to write as file names."""
    return made.record_set_of(tmp_path_factory.mktemp("odd") / "set", made.rows(made.ODD_KEYS))
