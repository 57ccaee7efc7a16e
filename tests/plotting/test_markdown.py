"""Tables in Markdown, against what they should show."""

import pytest

from forgetfilter.forgetting.estimates import Estimate
from forgetfilter.plotting.markdown import markdown_table


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (-0.004, "0.00"),
        (-0.005001, "-0.01"),
        (-12345.67, "-12,345.7"),
        (Estimate(-0.001, -0.02, -0.0), "0.00 (-0.02 to 0.00)"),
        (float("nan"), "–"),
    ],
)
def test_what_rounds_to_zero_has_no_sign(cell, shown):
    assert markdown_table(["a"], [[cell]]).splitlines()[-1] == f"| {shown} |"
