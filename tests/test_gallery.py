"""The gallery's reports are what its script makes of its tables."""

import importlib.util
import re
from pathlib import Path

import pytest

import bench

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"


def script():
    spec = importlib.util.spec_from_file_location("gallery", GALLERY / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("data_sets", marks=pytest.mark.thorough),
        "folds",
        "language_models",
        "records",
    ],
)
def test_a_report_states_what_its_table_gives(name: str):
    table, how = script().GALLERY[name]()
    found = bench.compare(table, **how)
    page = (GALLERY / f"{name}.html").read_text("utf-8")
    shown = re.search(r'<span class="chip">.*?</span>([A-Z, ]+)', page)
    for c in found.comparisons:
        assert c.verdict.label in page and c.verdict.headline in page
    assert shown is not None and shown[1].strip().startswith(found.comparisons[0].verdict.label)
