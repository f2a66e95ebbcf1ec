"""Links of a page to files outside of docs/, for mkdocs: into the repository where mkdocs.yml has a `repo_url`, else
the file's name alone."""

import re


def on_page_markdown(markdown, config, **_):
    home = f'[\\1]({config.repo_url}/blob/main/\\2)' if config.repo_url else '`\\2`'
    return re.sub(r'\[([^]]*)\]\(\.\./([^)\s]*)\)', home, markdown)
