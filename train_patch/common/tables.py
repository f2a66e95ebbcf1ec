"""Tables of numbers as Markdown, which reads as well on a screen."""

from typing import Any

Table = list[dict[str, Any]]
"""Rows of column → value, all with the same columns; the first names the row."""


def markdown(table: Table) -> str:
    """A table as Markdown; numbers with three digits, '–' for what is not there (None)."""
    lines = [list(table[0]), ['---', *['---:'] * (len(table[0]) - 1)]]
    lines += [[_cell(value) for value in row.values()] for row in table]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return '–'
    return value if isinstance(value, str) else f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
