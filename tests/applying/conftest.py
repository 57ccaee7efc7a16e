import pytest

from support.further_rows import look_at_rows, rows


@pytest.fixture(scope="session")
def run(model, tmp_path_factory):
    return look_at_rows(model, tmp_path_factory.mktemp("applied"))


@pytest.fixture
def more():
    """Further rows, unsafe and safe in turn."""
    return [row for pair in zip(rows(10, "unsafe", 50), rows(10, "safe", 50), strict=True) for row in pair]
