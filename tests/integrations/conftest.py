import pytest

from support.further_rows import look_at_rows


@pytest.fixture(scope="session")
def run(model, tmp_path_factory):
    return look_at_rows(model, tmp_path_factory.mktemp("applied"))
