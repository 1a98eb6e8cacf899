"""Scale tables: as the real tools write them, to the byte; and what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN

from transducer2ncnn.base.errors import UserError
from transducer2ncnn.formats import scale_table

TABLES = {part: GOLDEN / "int8" / f"{part}-scale-table.txt" for part in ("encoder", "joiner")}


@pytest.mark.parametrize("part", TABLES)
def test_the_tools_tables_survive_reading_and_writing(part: str, tmp_path: Path) -> None:
    table = scale_table.read(TABLES[part])
    assert table.weights.keys() == {f"{name}_param_0" for name in table.inputs}
    scale_table.write(tmp_path / "table.txt", table)
    assert (tmp_path / "table.txt").read_bytes() == TABLES[part].read_bytes()


def test_a_table_as_it_is_written(tmp_path: Path) -> None:
    weights = {"lstm_1_param_0": np.array([1.5, 2.0], np.float32), "fc_param_0": np.ones(1)}
    scale_table.write(tmp_path / "t.txt", scale_table.ScaleTable(weights, {"fc": 127 / 3}))
    text = "lstm_1_param_0 1.500000 2.000000 \nfc_param_0 1.000000 \nfc 42.333333 \n"
    assert (tmp_path / "t.txt").read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_param_0 1.0 x \n", "line 1: expected a name and its scales, found 'a_param_0 1.0 x '"),
        ("a_param_0 1.0 \na \n", "line 2: a has no scale"),
        ("a 1.0 \nb 1.0 2.0 \n", "line 2: b has 2 input scales"),
        ("a_param_0 1.0 nan \n", "line 1: a_param_0: scale number 2 is nan"),
        ("a inf \n", "line 1: a: scale number 1 is inf"),
        ("a 0.0 \n", "line 1: a: scale number 1 is 0"),
        # In fp32, as a bin holds them: infinite and 0.
        ("a 1e39 \n", "line 1: a: scale number 1 is 1e+39"),
        ("a 1e-46 \n", "line 1: a: scale number 1 is 1e-46"),
        ("a_param_0 -1.0 \n", "line 1: a_param_0: scale number 1 is -1"),
        ("a 1.0 \na 1.0 \n", "line 2: a has a line already"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(UserError, match=re.escape(f"table.txt, {message}")):
        scale_table.read(tmp_path / "table.txt")


def test_tables_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as a scale table"):
        scale_table.read(tmp_path / "missing.txt")
    for scale in (math.nan, 0.0, 1e-9):
        with pytest.raises(UserError, match=r"x\.txt: fc: scale number 1 is"):
            scale_table.write(tmp_path / "x.txt", scale_table.ScaleTable({}, {"fc": scale}))
    assert not (tmp_path / "x.txt").exists()
