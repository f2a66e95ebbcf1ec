"""The package's names: all of them there, and none of them imports torch before it is asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import timm

import hmix_timm


@pytest.mark.parametrize('name', hmix_timm.__all__)
def test_a_public_name_is_what_its_module_calls_so(name):
    value = getattr(hmix_timm, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__module__.startswith('hmix_timm.')


def test_the_library_imports_torch_numpy_and_timm_alone():
    """And torchvision in transforms.py; numba and scipy only where they are needed, in functions."""
    package = Path(hmix_timm.__file__).parent
    for path in package.rglob('*.py'):
        tree = ast.parse(path.read_text())
        given = {'torch', 'numpy', 'timm', *(['torchvision'] if path == package / 'transforms.py' else [])}
        assert imported(tree.body) - sys.stdlib_module_names <= given, path
        assert imported(ast.walk(tree)) - sys.stdlib_module_names <= given | {'numba', 'scipy'}, path


def imported(nodes):
    """The packages that statements import, but for those of this one."""
    nodes = list(nodes)
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.partition('.')[0] for name in names}


def test_dir_lists_the_public_names_alone_and_the_table_of_families_needs_no_torch():
    code = (
        'import sys, hmix_timm\nprint(*(name for name in dir(hmix_timm) if not name.startswith("__")))\n'
        'import hmix_timm.families, hmix_timm.modes\nfrom hmix_timm import DenseMask, register_family\n'
        'print(*(name for name in ("torch", "timm") if name in sys.modules))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    names, loaded = done.stdout.split('\n')[:2]
    assert (names.split(), loaded, done.stderr) == (sorted(hmix_timm.__all__), '', '')
    assert '__version__' in dir(hmix_timm)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hmix_timm' has no attribute 'CutMix'"):
        _ = hmix_timm.CutMix
    with pytest.raises(ImportError, match='cannot import name'):
        exec('from hmix_timm import CutMix')


def test_a_timm_without_naflex_is_named_with_what_it_lacks(monkeypatch):
    """An old one, and a newer one that has renamed the module."""
    monkeypatch.setitem(sys.modules, 'timm.data.naflex_mixup', None)  # cannot be imported
    monkeypatch.delitem(sys.modules, 'hmix_timm.naflex', raising=False)
    monkeypatch.delitem(vars(hmix_timm), 'NaFlexMixup', raising=False)
    with pytest.raises(ImportError) as raised:
        _ = hmix_timm.NaFlexMixup
    assert str(raised.value).startswith(
        'NaFlexMixup needs timm.data.naflex_mixup, which came with timm 1.0.20; '
        f'it cannot be imported from timm {timm.__version__}: '
    )


def test_a_module_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'hmix_timm.puzzle', None)
    monkeypatch.delitem(vars(hmix_timm), 'PuzzleMix', raising=False)
    with pytest.raises(ImportError, match=r'hmix_timm\.puzzle'):
        _ = hmix_timm.PuzzleMix
