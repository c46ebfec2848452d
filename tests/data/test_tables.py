"""Tables as facts: which cells are values, and what each is called."""

from __future__ import annotations

import pytest

from dyme.data.tables import is_blank
from dyme.tasks import chartqa, tabmwp
from dyme.types import Fact

BLANK = (
    "",
    " ",
    "?",
    "-",
    "–",
    "—",
    "--",
    "nan",
    "NaN",
    "NAN",
    "n/a",
    "N/A",
    "n.a.",
    "NA",
    "na",
    "#N/A",
    "inf",
    "-inf",
    "Infinity",
    "null",
    "..",
    "…",
)
VALUES = ("0", "-5", "+3", "4.5%", "Na", "none", "no", "nancy", "infant", "x", "a-b", "1/2")


@pytest.mark.parametrize("cell", BLANK)
def test_cells_without_a_value_are_no_facts(cell: str) -> None:
    assert is_blank(cell)
    quoted = f'"{cell}"'
    assert chartqa.table_facts(f"Country,2019\nUK,{quoted}\nSpain,48.0\n") == (Fact("Spain", "48.0"),)
    assert tabmwp.table_facts(f"lamp | {cell}\nmug | $3") == (Fact("mug", "$3"),)


@pytest.mark.parametrize("cell", VALUES)
def test_cells_with_a_value_are(cell: str) -> None:
    assert not is_blank(cell)
    assert chartqa.table_facts(f"Country,2019\nUK,{cell}\n") == (Fact("UK", cell),)
