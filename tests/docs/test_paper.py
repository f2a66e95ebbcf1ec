"""docs/paper.md: its numbers are what its block prints, and each of its points says where it can be looked up."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'docs' / 'paper.md').read_text(encoding='utf-8')
NUMBER = re.compile(r'\d+\.\d+')


def test_the_block_prints_the_numbers_of_the_page(capsys, monkeypatch):
    (code,), (expected,) = (re.findall(rf'^```{kind}\n(.*?)^```', TEXT, re.M | re.S) for kind in ('python', 'text'))
    monkeypatch.chdir(ROOT)
    exec(compile(code, 'docs/paper.md', 'exec'), {})
    printed = capsys.readouterr().out
    assert NUMBER.sub('', printed) == NUMBER.sub('', expected)
    # boxes of older timms are a pixel smaller
    found, named = (list(map(float, NUMBER.findall(text))) for text in (printed, expected))
    assert found == pytest.approx(named, abs=0.035)


def test_every_point_names_a_file_or_a_command():
    points = re.findall(r'^\* .*?(?=^\* |^!|^#|\Z)', TEXT, re.M | re.S)
    assert len(points) > 25
    assert [point for point in points if not re.search(r'\]\([\w./#-]+\)|`hmix-\w+ --|the block above', point)] == []
