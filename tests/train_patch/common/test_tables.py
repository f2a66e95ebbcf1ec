"""Tables as Markdown, to the last character."""

from train_patch.common.tables import latex, markdown


def test_a_table_in_markdown_is_aligned_and_in_latex_escaped():
    table = [
        {'name': 'small', 'a': 1.2345, 'b': 0.00012345, 'c': 0.0},
        {'name': 'large', 'a': 12345.6, 'b': -12345.6, 'c': '±1'},
        {'name': 'between', 'a': 99.46, 'b': None, 'c': 100},
    ]
    assert markdown(table).splitlines() == [
        '| name    |     a |        b |   c |',
        '| ------- | ----: | -------: | --: |',
        '| small   |  1.23 | 0.000123 |   0 |',
        '| large   | 12346 |   -12346 |  ±1 |',
        '| between |  99.5 |        – | 100 |',
    ]
    assert latex([{'name': 'a_b', '100 %': None}, {'name': 'c', '100 %': '1 ± 2'}]).splitlines() == [
        r'\begin{tabular}{lr}',
        r'\toprule',
        r'name & 100 \% \\',
        r'\midrule',
        r'a\_b & -- \\',
        r'c & 1 $\pm$ 2 \\',
        r'\bottomrule',
        r'\end{tabular}',
    ]
    assert markdown([{'name': 'alone'}]) == '| name  |\n| ----- |\n| alone |'
