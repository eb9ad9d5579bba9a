"""Each field of what moves has its answer (tests/tools/check_fields.py)."""

import os
import sys

import pytest

from pooler import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "tools"))
import check_fields  # noqa: E402


@pytest.mark.parametrize("path, struct", check_fields.FIELDS)
def test_b09_each_field_has_its_answer(path, struct):
    if not os.path.exists(os.path.join(ROOT, path)):
        pytest.skip("the sources are not here")
    assert check_fields.check_answers(path, struct) == []


@pytest.mark.parametrize("side", check_fields.SIDES)
def test_b09_what_is_said_to_be_written_is_on_both_sides(side):
    assert check_fields.check_side(side) == []


def test_b09_each_bit_of_a_session_has_its_answer():
    assert check_fields.check_bits() == []
