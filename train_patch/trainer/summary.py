"""The tables of a run, `summary.csv` and `times.csv`: one row an epoch, read and written here alone.

Importing this costs nothing: neither torch nor timm is needed to read a table.
"""

import csv
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..common.errors import RunError
from ..common.files import write_bytes

Table = Mapping[int, Mapping[str, Any]]
"""Epoch → column → value."""


def read_table(path: str | Path) -> dict[int, dict[str, str]]:
    """Reads a table, also one that is still being written or that timm's script wrote on after a resume.

    timm's script writes its header again when it resumes, and repeats an epoch whose checkpoint was not saved: the
    last row of an epoch is the one that the following epochs build on. A line without its end is still being written.

    Args:
        path: the file; it may be missing.

    Returns:
        Epoch → column → text, sorted by epoch; empty where there is no file or no row yet.

    Raises:
        RunError: a row has no epoch number, or the file is not text; the message names the file.
    """
    rows: dict[int, dict[str, str]] = {}
    header: list[str] = []
    try:
        with open(path, newline='') as file:
            lines = [line for line in file if line.endswith('\n')]
        for fields in csv.reader(lines):
            if fields and fields[0] == 'epoch':
                header = fields
            elif fields:
                row = dict(zip(header, fields, strict=False))
                rows[int(row['epoch'])] = row
    except FileNotFoundError:
        return {}
    except (KeyError, ValueError, csv.Error) as error:
        raise RunError(f'cannot read {path}: a row without an epoch number') from error
    return dict(sorted(rows.items()))


def write_table(path: str | Path, rows: Table) -> None:
    """Writes a table as a whole, sorted by epoch; a column that a row lacks stays empty. Without rows there is no file.

    Args:
        path: the file.
        rows: epoch → column → value, as `read_table` returns them.

    Raises:
        RunError: the file cannot be written; what it held before is still there.
    """
    if not rows:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    ordered = [rows[epoch] for epoch in sorted(rows)]
    columns = dict.fromkeys(column for row in ordered for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(ordered)
    write_bytes(path, text.getvalue().encode())
