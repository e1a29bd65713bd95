"""The place that the end-to-end tests share: a store, a folder of wheels, and the one wheel that is built there."""

from __future__ import annotations

import pytest
from main_job import Place


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("main-job"))
