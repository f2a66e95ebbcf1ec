"""Adds the project's address to what `setup.cfg` says, once there is one: on an index's page README's links need it."""

import re
from pathlib import Path

ADDRESS = ''  # such as https://github.com/OWNER/hmix-timm


def with_address(readme: str, address: str) -> str:
    """README with links and pictures that lead from any page into the project at its address."""

    def absolute(match: re.Match[str]) -> str:
        kind = 'raw' if match[2].endswith(('.png', '.svg', '.gif')) else 'blob'
        return f'{match[1]}{address}/{kind}/HEAD/{match[2]}'

    return re.sub(r'(\]\(|(?:src|srcset|href)=")(?![a-z]+:|#)([^)"\s]+)', absolute, readme) if address else readme


if __name__ == '__main__':
    from setuptools import setup

    readme = Path(__file__).with_name('README.md').read_text(encoding='utf-8')
    setup(url=ADDRESS or None, long_description=with_address(readme, ADDRESS))
