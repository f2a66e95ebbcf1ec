"""The package says one version everywhere, and its front page has its links on an index, too."""

import re
import runpy

from hmix_timm import __version__
from tests.docs.test_links import ROOT, targets


def test_changelog_and_citation_name_the_version_and_its_day():
    released = re.search(
        r'^## \[([^]]+)\] - (\S+)$', (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'), re.M
    ).groups()
    citation = dict(re.findall(r"^([a-z-]+): '?([^'\n]+)", (ROOT / 'CITATION.cff').read_text(encoding='utf-8'), re.M))
    assert released == (citation['version'], citation['date-released']) and released[0] == __version__


def test_the_front_page_of_an_index_leads_into_the_project_at_its_address(tmp_path):
    with_address = runpy.run_path(str(ROOT / 'setup.py'))['with_address']
    readme, page = (ROOT / 'README.md').read_text(encoding='utf-8'), tmp_path / 'page.md'
    assert with_address(readme, '') == readme
    page.write_text(with_address(readme, 'https://example.org/us/hmix-timm'), encoding='utf-8')
    text = page.read_text(encoding='utf-8')
    assert targets(ROOT / 'README.md') and not targets(page)
    assert not re.search(r'(?:src|srcset|href)="(?!https:)', text)
    assert 'https://example.org/us/hmix-timm/blob/HEAD/CONTRIBUTING.md' in text
    assert re.search(r'https://example.org/us/hmix-timm/raw/HEAD/docs/\w+\.(png|svg)', text)
