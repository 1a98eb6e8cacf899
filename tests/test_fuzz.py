"""Damaged files: every reader reads them or ends in one message, in little memory and time."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import Reader, attempts, damaged
from readers import readers

ATTEMPTS = 200


@pytest.mark.parametrize("reader", readers(), ids=lambda reader: reader.name)
def test_a_reader_reads_what_is_damaged_or_says_what_is_wrong(
    reader: Reader, tmp_path: Path
) -> None:
    for files in reader.seeds:
        for name, content in files.items():
            (tmp_path / "whole" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "whole" / name).write_bytes(content)
        reader.read(tmp_path / "whole")
    failures = list(attempts(reader, range(ATTEMPTS), tmp_path))
    assert not failures, f"{len(failures)} failures, the first: {failures[0].what}"


def test_the_same_number_does_the_same_damage() -> None:
    for reader in readers():
        changed = [damaged(reader, i) for i in range(50)]
        assert changed == [damaged(reader, i) for i in range(50)]
        assert sum(files not in reader.seeds for files in changed) > 40
