"""What several files of this folder read and nobody changes."""

from pathlib import Path

import pytest

from tests.large_run import make_large_run


@pytest.fixture(scope="session")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 2,000 candidates."""
    return make_large_run(tmp_path_factory.mktemp("large") / "run", 2000)
