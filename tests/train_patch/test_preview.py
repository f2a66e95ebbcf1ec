"""hmix-preview as a command: what it writes and says, and how mistakes end."""

import numpy as np
import pytest
import yaml
from PIL import Image

from hmix_timm import FastCollateMixup
from hmix_timm.families import FAMILIES
from train_patch.data.digits import digits_path
from train_patch.preview import SEED, build_parser, main, parse_training

FLAT = """
from hmix_timm import BoxMask, register_family
@register_family('flat', title='Flat', options={'by': 1.0})
def flat(size, lam, options, draws):
    return BoxMask(lam)
"""


@pytest.fixture
def drawn(monkeypatch, tmp_path, capsys):
    """`drawn(…)`: the headline of the picture that a command line asks for, and the titles of its panels."""
    figures = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('train_patch.drawing.pictures.save_figure', lambda figure, path: figures.append(figure))

    def call(*line):
        assert main([*map(str, line), '--img-size', '32']) == 0
        headline = figures[-1].get_suptitle().replace('\n', ' ')
        out = capsys.readouterr().out
        assert headline.startswith('λ') or f'Mixing: {headline}' in out
        assert out.endswith('preview.png\n')
        return headline, [panel.get_title() for panel in figures[-1].axes], out

    return call


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """`refused(…)`: the line with which a command ends that writes nothing."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())

    def ask(*arguments):
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as stopped:
            status = stopped.code
        assert status == 2 and sorted(tmp_path.iterdir()) == before
        return capsys.readouterr().err.strip().splitlines()[-1]

    return ask


@pytest.fixture
def recipe(tmp_path_factory):
    """`recipe(text)`: the path of a recipe."""

    def write(text):
        path = tmp_path_factory.mktemp('recipes') / 'recipe.yaml'
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return write


@pytest.mark.parametrize(
    ('line', 'mixer'),
    [
        ('--mix-mode puzzlemix --model test_resnet', 'PuzzleMix('),
        ('--grid none mixup cutmix stochastic hmix gmix --lam 0.8 --hmix-ratio 0.5', ''),
    ],
)
def test_a_picture_is_written_by_a_real_process(line, mixer, processes, tmp_path):
    output = tmp_path / 'out' / 'preview.png'
    done = processes.module('train_patch.preview', *line.split(), '--img-size', 32, '-o', output).passed()
    assert (f'Mixing: {mixer}' in done.stdout) == bool(mixer) and done.stdout.endswith(f'{output}\n')
    assert [path.name for path in output.parent.iterdir()] == ['preview.png']
    with Image.open(output) as image:
        assert image.format == 'PNG' and np.asarray(image.convert('RGB')).std() > 30


@pytest.mark.parametrize(('suffix', 'kind'), [('jpg', 'JPEG'), ('PNG', 'PNG'), ('webp', 'WEBP')])
def test_the_file_is_of_the_format_of_its_suffix(suffix, kind, tmp_path):
    path = tmp_path / f'picture.{suffix}'
    assert main(['--rows', '1', '--img-size', '32', '-o', str(path)]) == 0
    with Image.open(path) as image:
        assert image.format == kind


@pytest.mark.parametrize('mode', ['mixup', 'cutmix', 'stochastic', 'hmix', 'gmix'])
@pytest.mark.parametrize('mixup_mode', ['batch', 'pair', 'elem'])
def test_the_default_seed_shows_something(mode, mixup_mode):
    """timm's transforms draw from other generators, so the mixer draws as it does here."""
    assert build_parser().parse_args([]).seed == SEED
    mixer = FastCollateMixup.from_mode(mode, mode=mixup_mode, num_classes=2, label_smoothing=0.0)
    batch = [(np.zeros((3, 224, 224), np.uint8), label) for label in (0, 1)]
    np.random.seed(SEED)
    weights = np.concatenate([mixer(batch)[1].numpy().ravel() for _ in range(2)])
    assert weights.min() > 0.1


@pytest.mark.parametrize(
    ('line', 'rows'), [('', 4), ('--rows 1', 1), ('--rows 3', 3), ('--rows 3 --mixup 1 --mixup-mode half', 3)]
)
def test_there_are_as_many_rows_as_asked_for(drawn, line, rows):
    assert drawn(*line.split())[1].count('mask M') == rows


def test_a_recipe_is_shown_with_its_images_and_the_command_line_beats_it(drawn, recipe, image_folder):
    settings = {'model': 'test_resnet', 'lr': 0.1, 'aa': 'rand-m5', 'reprob': 0.3, 'smoothing': 0.0, 'mixup': 0.4}
    settings |= {'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mixup_mode': 'elem', 'data_dir': str(image_folder)}
    path = recipe({**settings, 'a_key_of_another_script': 3})
    headline, _, out = drawn('--config', path, '--rows', '3')
    assert 'GMix(alpha=1, kernel=paper), mode=elem, prob=1, label_smoothing=0, num_classes=4' in headline
    assert 'replaced by --mix-mode gmix: --mixup 0.4' in out
    line = ['--rows', '1', '--mix-mode', 'hmix', '--hmix-ratio', '0.2', '--mixup-mode', 'pair']
    assert 'HMix(alpha=1, ratio=0.2), mode=pair' in drawn('-c', path, *line)[0]


@pytest.mark.parametrize(
    ('line', 'mixer'),
    [
        ('-c cifar100_wrn28_2 --mix-mode hmix', 'HMix(alpha=1, ratio=0.5)'),
        ('--mixup 0.8 --cutmix 1 --cutmix-mode hmix', 'Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.75), switch_prob=0.5'),
        ('--mix-mode none', 'no mixing'),
    ],
)
def test_mixing_is_that_of_training(drawn, line, mixer):
    assert mixer in drawn(*line.split(), '--rows', '1')[0]


@pytest.mark.parametrize('option', ['-c', '--config', '--conf'])  # abbreviated as in training
def test_a_recipe_that_mixes_by_itself_is_shown_as_it_is(drawn, recipe, option):
    assert 'Mixup(alpha=0.25)' in drawn(option, recipe('model: test_resnet\nmixup: 0.25\n'), '--rows', '1')[0]


@pytest.fixture
def flat(tmp_path_factory):
    """A file that registers a family; what it registers is forgotten afterwards."""
    before = dict(FAMILIES)
    path = tmp_path_factory.mktemp('masks') / 'my_masks.py'
    path.write_text(FLAT)
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.mark.parametrize(
    ('line', 'shown'),
    [
        ('--mix-families {flat} --mix-mode flat', 'Flat(alpha=1, by=1)'),
        ('--mix-families {flat} --cutmix-mode flat --cutmix 1', 'Flat(alpha=1, by=1)'),
        ('--mix-families {flat} --grid flat --flat-by 2', 'Flat\nby=2'),
        ('-c {recipe} --grid flat mixup', 'Flat\nby=1'),
    ],
)
def test_a_users_own_family_is_shown(line, shown, flat, recipe, drawn):
    path = recipe({'mix_families': str(flat)})
    headline, titles, _ = drawn(*line.format(flat=flat, recipe=path).split())
    assert shown in headline or shown in titles


def test_help_has_the_options_of_training_and_of_a_users_own_family(flat, capsys):
    with pytest.raises(SystemExit):
        main(['--mix-families', str(flat), '--help'])
    said = capsys.readouterr().out
    assert ',flat' in said and '--flat-by B' in said
    for option in ('-o', '--rows', '--seed', '--data-dir', '--images', '--grid', '--lam', '-c RECIPE', '--img-size N'):
        assert f'\n  {option}' in said


def test_a_grid_is_of_one_lambda_and_without_modes_of_all_of_them(drawn):
    for more, lam in (([], '0.65'), (['--lam', '0.25'], '0.25'), (['--lam', '0'], '0')):
        headline, titles, _ = drawn('--grid', 'mixup', 'none', *more)
        assert headline == f'λ = {lam}'
        assert {'Mixup', 'No mixing', f'i {float(lam):.3f}, j {1 - float(lam):.3f}'} <= set(titles)
    names = [title.partition('\n')[0] for title in drawn('--grid')[1]]
    assert {'No mixing', 'Mixup', 'CutMix', 'Stochastic', 'HMix', 'GMix'} <= set(names)


def test_a_grid_has_the_options_of_line_and_recipe(drawn, recipe):
    path = recipe('hmix_ratio: 0.25\nmix_preset: cifar100\n')
    _, titles, out = drawn('--grid', 'hmix', 'gmix', '--gmix-kernel', 'paper', '-c', path, '--cutmix', '0.25')
    assert {'HMix\nratio=0.25', 'GMix\nkernel=paper'} <= set(titles)
    assert 'replaced by --mix-mode none: --cutmix 0.25' in out  # timm's option, no abbreviation of --cutmix-mode


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ('--mix-mode other', '--mix-mode must be one of none, mixup, cutmix, stochastic, hmix, gmix, fmix'),
        ('--mix-mode hmix --hmix-ratio 1.5', '--hmix-ratio must be a finite number between 0 and 1, got 1.5'),
        ('--mixup 1 --mixup-prob 2', '--mixup-prob must be a finite number between 0 and 1, got 2.0'),
        ('--mixup 1 --gmix-kernel paper', '--gmix-kernel needs --mix-mode'),
        ('--grid hmix puzzlemix', '--grid must be one of none, mixup, cutmix, stochastic, hmix, gmix, fmix'),
        ('--grid gmix --hmix-ratio 0.5', '--hmix-ratio has no effect on any of --grid gmix'),
        ('--grid hmix --hmix-ratio 1.5', '--hmix-ratio must be a finite number between 0 and 1, got 1.5'),
        ('--grid hmix --mix-mode hmix', '--mix-mode is not for --grid, which shows one pair'),
        ('--grid hmix --mix-alpha 1', '--mix-alpha is not for --grid'),
        ('--grid hmix --mix-literal', '--mix-literal is not for --grid'),
        ('--grid hmix --rows 2', '--rows is not for --grid'),
        ('--grid hmix --lam 1.5', '--lam must be a finite number between 0 and 1, got 1.5'),
        ('--lam 0', '--lam is for --grid'),
        ('--rows 0', '--rows: must be a whole number from 1 to 32, got 0'),
        ('--rows 33', '--rows: must be a whole number from 1 to 32, got 33'),
        ('--seed -1', '--seed: must be a whole number from 0 to 4294967295, got -1'),
        ('--img-size 1025', '--img-size must be a finite number between 0 and 1024, got 1025'),
        ('--input-size 3 8 1025', '--img-size must be a finite number between 0 and 1024, got 1025'),
        ('--data-dir nowhere', '--data-dir nowhere: there is no such folder'),
        ('--config nowhere', "recipe 'nowhere' is neither a file nor a shipped recipe"),
        ('--data-dir x --images digits', 'not allowed with argument'),
        ('--no-such-option', 'unrecognized arguments: --no-such-option'),
        ('-o picture.tiff', "the suffix of --output must be one of .png, .jpg, .jpeg, .pdf, .svg, .webp, got '.tiff'"),
        ('-o /proc/x.png', '--output: cannot write to /proc'),
        ('--mix-families nowhere.py', 'nowhere.py: there is no such file'),
    ],
)
def test_wrong_options_end_with_one_line(arguments, message, refused):
    line = refused(*arguments.split())
    assert line.startswith('hmix-preview: error: ') and message in line


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('lr: 0.1', 'nothing is mixed'),
        ('mix_mode: other', '--mix-mode must be one of none, mixup'),
        ('mixup: 1\nepochs: many', "argument --epochs: invalid int value: 'many'"),
        ('mix_mod: hmix', "unknown key in the recipe: 'mix_mod' (the nearest known one is 'mix_mode')"),
        ('[1, 2]', 'must hold lines of "name: value"'),
        *(
            (f'mix_mode: hmix\n{key}: 2', f'--{key.replace("_", "-")}: this script takes timm')
            for key in ('aug_splits', 'naflex_loader', 'jsd_loss', 'train_img_sizes')
        ),
    ],
)
def test_wrong_recipes_end_with_one_line(text, message, recipe, refused):
    assert message in refused('--config', recipe(text))


def training(*line):
    options, rest = build_parser().parse_known_args(list(map(str, line)))
    return parse_training(options, rest, rest[rest.index('-c') + 1] if '-c' in rest else None)[0]


def test_images_are_those_that_are_asked_for_or_the_recipes(recipe, image_folder, tmp_path):
    own = recipe({'data_dir': str(image_folder), 'num_classes': 4, 'mixup': 1.0})
    digits, cifar = str(digits_path()), ('-c', 'cifar100_wrn28_2', '--mix-mode', 'hmix')
    for line, expected in (
        (['-c', own], (str(image_folder), '', 4)),
        (['-c', own, '--images', 'photos'], (None, '', None)),
        (['-c', own, '--data-dir', tmp_path], (str(tmp_path), '', 4)),
        ([*cifar, '--images', 'photos'], (None, '', None)),
        ([*cifar, '--images', 'digits', '--class-map', 'x.txt', '--train-split', 'x'], (digits, '', None)),
        (['-c', 'digits', '--mix-mode', 'hmix'], (digits, '', None)),
        (['-c', 'digits', '--mix-mode', 'hmix', '--data-dir', tmp_path], (str(tmp_path), '', 10)),
    ):
        args = training(*line)
        assert (args.data_dir, args.dataset, args.num_classes) == expected and args.class_map == '', line
    assert training(*cifar).data_dir is None
    assert vars(training('--images', 'digits', '--mix-mode', 'hmix')) == vars(
        training('-c', 'digits', '--mix-mode', 'hmix')
    )


def test_the_command_line_beats_a_recipe_whose_images_cannot_be_shown(recipe):
    path = recipe({'aug_splits': 2, 'mixup': 'none'})
    assert training('-c', path, '--aug-splits', '0', '--mix-mode', 'hmix').mix_mode == 'hmix'


def test_the_number_of_channels_is_no_side():
    assert training('--input-size', '2000', '8', '1024').input_size == [2000, 8, 1024]


def test_a_bug_in_a_users_mask_is_a_traceback(tmp_path, processes):
    (tmp_path / 'masks.py').write_text(FLAT.replace('BoxMask(lam)', 'BoxMask(float("bug"))'))
    line = ['--mix-families', tmp_path / 'masks.py', '--mix-mode', 'flat', '-o', tmp_path / 'x.png']
    done = processes.module('train_patch.preview', *line).wait()
    assert done.status == 1 and 'masks.py", line 5, in flat' in done.stderr
