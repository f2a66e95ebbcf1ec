"""Links of a page to files outside of docs/, for mkdocs: into the project at its address, or the file's name alone
until `setup.py` has an address."""

import re
from pathlib import Path
from runpy import run_path

ADDRESS = run_path(str(Path(__file__).parents[1] / 'setup.py'))['ADDRESS']


def on_page_markdown(markdown, **_):
    link = f'[\\1]({ADDRESS}/blob/HEAD/\\2)' if ADDRESS else '`\\2`'
    return re.sub(r'\[([^]]*)\]\(\.\./([^)\s]*)\)', link, markdown)
