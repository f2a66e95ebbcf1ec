"""Tables of numbers as Markdown, which reads as well on a screen, and as LaTeX."""

from typing import Any

Table = list[dict[str, Any]]
"""Rows of column → value, all with the same columns; the first column names the row."""


def markdown(table: Table) -> str:
    """Returns a table as Markdown in aligned columns: numbers with three digits, '–' for a missing value (None)."""
    rows = [list(table[0]), *([_cell(value) for value in row.values()] for row in table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    header, *lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
    return '\n'.join(f'| {" | ".join(line)} |' for line in [header, rule, *lines])


_LATEX = str.maketrans({**{sign: f'\\{sign}' for sign in '%&_#$'}, '±': r'$\pm$', '–': '--'})


def latex(table: Table) -> str:
    """Returns a table as a LaTeX tabular with the rules of booktabs; cells as in `markdown`."""
    header, *rows = [list(table[0]), *([_cell(value) for value in row.values()] for row in table)]
    head, *lines = (' & '.join(cell.translate(_LATEX) for cell in row) + r' \\' for row in (header, *rows))
    columns = 'l' + 'r' * (len(header) - 1)
    rules = [rf'\begin{{tabular}}{{{columns}}}', r'\toprule', head, r'\midrule', *lines, r'\bottomrule']
    return '\n'.join([*rules, r'\end{tabular}'])


def _cell(value: Any) -> str:
    if value is None:
        return '–'
    return value if isinstance(value, str) else f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
