"""The relative links of README and docs: each leads to something that is in the project."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').glob('*.md'))]


def targets(page):
    """Where the links and pictures of a page lead, but for other sites and the page itself."""
    links = re.findall(r'\]\(([^)\s]+)\)', page.read_text(encoding='utf-8'))
    return [link.partition('#')[0] for link in links if not link.startswith(('http://', 'https://', '#'))]


def test_the_front_page_leads_to_every_page():
    reached, todo = set(), [ROOT / 'README.md']
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            todo += [(page.parent / target).resolve() for target in targets(page) if target.endswith('.md')]
    assert reached == set(PAGES)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    missing = [target for target in targets(page) if not (page.parent / target).exists()]
    assert not missing
