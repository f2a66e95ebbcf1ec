"""Wrong use is one line; a user's own bug is a traceback that ends in his file."""

import pytest

from hmix_timm.families import FAMILIES
from train_patch import bench, compare, figures, preview
from train_patch.common.errors import RunError, told_as
from train_patch.trainer.arguments import parse_arguments

FAMILY = """
from hmix_timm import BoxMask, register_family
{top}
@register_family('own')
def own(size, lam, options, draws):
    return {mask}
"""
BUGS = ["int('many')", "open('no.npy')"]

COMMANDS = {
    'preview': (preview.main, '--mix-mode own --img-size 32'),
    'grid': (preview.main, '--grid own --img-size 32'),
    'figures': (figures.main, '--output out --figures 3'),
    'bench': (bench.main, '--only mixers --mix-modes own --batch-size 4 --size 16 --repeats 1'),
}
PARSED = {
    'train': (parse_arguments, '--mix-mode own'),
    'compare': (compare.main, '--modes own --dry-run'),
}


@pytest.fixture
def family(tmp_path, monkeypatch):
    """Writes a file of a family, of which there is no other."""
    monkeypatch.chdir(tmp_path)

    def write(name, mask='BoxMask(lam)', top=''):
        FAMILIES.pop('own', None)
        (tmp_path / name).write_text(FAMILY.format(mask=mask, top=top))
        return tmp_path / name

    yield write
    FAMILIES.pop('own', None)


def call(command, path):
    main, line = {**COMMANDS, **PARSED}[command]
    return main([*line.split(), '--mix-families', str(path)])


@pytest.mark.parametrize('command', COMMANDS)
def test_a_bug_in_a_mask_is_a_traceback_that_ends_in_its_file(command, family):
    for number, bug in enumerate(BUGS):
        path = family(f'{number}.py', mask=bug)
        with pytest.raises((ValueError, OSError)) as raised:
            call(command, path)
        assert raised.traceback[-1].path == path


@pytest.mark.parametrize('command', [*COMMANDS, *PARSED])
def test_a_bug_in_a_file_of_families_is_a_traceback_that_ends_there(command, family):
    for number, bug in enumerate([*BUGS, 'None + 1']):
        path = family(f'{number}.py', top=bug)
        with pytest.raises((ValueError, OSError, TypeError)) as raised:
            call(command, path)
        assert raised.traceback[-1].path == path


@pytest.mark.parametrize('command', [*COMMANDS, *PARSED])
def test_a_file_that_registers_wrongly_is_named_in_one_line(command, family, capsys):
    path = family('masks.py', top="register_family('No name')")
    try:
        status = call(command, path)
    except SystemExit as end:
        status = end.code
    assert status == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f'error: --mix-families {path}: a family needs a name of lower-case letters' in last


def test_an_error_of_others_is_told_in_one_line_and_an_interrupt_goes_on():
    for error, reason in (
        (OSError('two\nlines'), 'two lines'),
        (KeyError(), 'KeyError'),
        (TypeError('x' * 999), 'x' * 300),
    ):
        with pytest.raises(RunError) as raised, told_as('--option value', RunError):
            raise error
        assert str(raised.value) == f'--option value: {reason}' and raised.value.__cause__ is error
        assert raised.value.status == 1
    with pytest.raises(KeyboardInterrupt), told_as('--option value'):
        raise KeyboardInterrupt


@pytest.mark.parametrize('command', COMMANDS)
def test_what_is_no_mask_is_named_in_one_line(command, family, capsys):
    assert call(command, family('masks.py', mask='BoxMask(1.5)')) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: family 'own' drew no mask for λ = " in last and last.endswith('outside [0, 1]')
