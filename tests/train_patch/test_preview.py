"""hmix-preview as a command: what it writes and says, and how mistakes end."""

import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from hmix_timm import FastCollateMixup
from hmix_timm.families import FAMILIES
from train_patch.data.digits import digits_path
from train_patch.preview import MAX_ROWS, SEED, _check_options, _read_shown_recipe, build_parser, main, parse_training


def run(tmp_path, *arguments):
    output = tmp_path / 'out' / 'preview.png'
    assert main([*map(str, arguments), '--output', str(output)]) == 0
    with Image.open(output) as image:
        image.load()
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB'))


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """The line with which a command ends that writes nothing."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())

    def ask(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, arguments)))
        assert stopped.value.code == 2
        assert sorted(tmp_path.iterdir()) == before
        return capsys.readouterr().err.strip().splitlines()[-1]

    return ask


def test_photographs_with_hmix_by_default(tmp_path, capsys):
    assert run(tmp_path, '--rows', '1').std() > 30
    assert 'Mixing: FastCollateMixup(HMix(alpha=1, ratio=0.75), mode=batch' in capsys.readouterr().out
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['preview.png']


def test_the_seed_decides_what_is_drawn(tmp_path):
    first = run(tmp_path, '--rows', '1', '--img-size', '48')
    assert (run(tmp_path, '--rows', '1', '--img-size', '48') == first).all()
    assert (run(tmp_path, '--rows', '1', '--img-size', '48', '--seed', '1') != first).any()


@pytest.mark.parametrize('mode', ['mixup', 'cutmix', 'stochastic', 'hmix', 'gmix'])
@pytest.mark.parametrize('mixup_mode', ['batch', 'pair', 'elem'])
def test_the_default_seed_shows_something(mode, mixup_mode):
    """timm's transforms draw from other generators, so the mixer draws as it does here."""
    mixer = FastCollateMixup.from_mode(mode, mode=mixup_mode, num_classes=2, label_smoothing=0.0)
    batch = [(np.zeros((3, 224, 224), np.uint8), label) for label in (0, 1)]
    np.random.seed(SEED)
    weights = np.concatenate([mixer(batch)[1].numpy().ravel() for _ in range(2)])
    assert weights.min() > 0.1


@pytest.fixture
def recipe(tmp_path, image_folder):
    path = tmp_path / 'recipe.yaml'
    settings = {
        'model': 'test_resnet', 'img_size': 40, 'lr': 0.1, 'aa': 'rand-m5', 'reprob': 0.3, 'smoothing': 0.0,
        'mixup': 0.4, 'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mixup_mode': 'elem', 'data_dir': str(image_folder),
        'a_key_of_another_script': 3,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return path


def test_a_recipe_and_its_image_folder(recipe, tmp_path, capsys):
    run(tmp_path, '--config', recipe, '--rows', '3')
    out = capsys.readouterr().out
    assert 'GMix(alpha=1, kernel=paper), mode=elem, prob=1, label_smoothing=0, num_classes=4' in out
    assert 'replaced by --mix-mode gmix: --mixup 0.4' in out


def test_the_command_line_beats_a_recipe(recipe, tmp_path, capsys):
    run(tmp_path, '-c', recipe, '--rows', '1', '--mix-mode', 'hmix', '--hmix-ratio', '0.2', '--mixup-mode', 'pair')
    assert 'HMix(alpha=1, ratio=0.2), mode=pair' in capsys.readouterr().out


def test_a_shipped_recipe_by_its_name(tmp_path, capsys):
    run(tmp_path, '-c', 'cifar100_wrn28_2', '--mix-mode', 'hmix', '--rows', '1')
    assert 'HMix(alpha=1, ratio=0.5)' in capsys.readouterr().out


def test_hmix_in_the_cutmix_slot_of_a_recipe(tmp_path, capsys):
    run(tmp_path, '--mixup', '0.8', '--cutmix', '1', '--cutmix-mode', 'hmix', '--rows', '1', '--img-size', '48')
    assert 'Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.75), switch_prob=0.5' in capsys.readouterr().out


def test_without_mixing_every_image_is_its_own(tmp_path, capsys):
    run(tmp_path, '--mix-mode', 'none', '--rows', '1', '--img-size', '48')
    assert 'no mixing' in capsys.readouterr().out


def test_a_grid_of_mix_modes(tmp_path):
    modes = ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix']
    image = run(tmp_path, '--grid', *modes, '--lam', '0.8', '--hmix-ratio', '0.5', '--img-size', '48')
    assert image.shape[1] > 2 * image.shape[0]


@pytest.fixture
def flat(tmp_path):
    """A file that registers a family; what it registers is forgotten afterwards."""
    before = dict(FAMILIES)
    path = tmp_path / 'my_masks.py'
    path.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('flat', title='Flat', options={'by': 1.0})\n"
        'def flat(size, lam, options, draws):\n'
        '    return BoxMask(lam)\n'
    )
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.mark.parametrize('chosen', ['--mix-mode flat', '--cutmix-mode flat --cutmix 1', '--grid flat --flat-by 2'])
def test_a_family_of_ones_own(chosen, flat, tmp_path, capsys):
    run(tmp_path, '--mix-families', flat, *chosen.split(), '--img-size', '32')
    assert ('Flat(alpha=1, by=1)' in capsys.readouterr().out) == ('--grid' not in chosen)


def test_a_family_of_ones_own_is_in_the_help(flat, capsys):
    with pytest.raises(SystemExit):
        main(['--mix-families', str(flat), '--help'])
    said = capsys.readouterr().out
    assert 'gmix,flat' in said and '--flat-by B' in said


@pytest.mark.parametrize(('suffix', 'kind'), [('jpg', 'JPEG'), ('PNG', 'PNG'), ('webp', 'WEBP')])
def test_the_file_is_what_its_name_says(suffix, kind, tmp_path):
    path = tmp_path / f'picture.{suffix}'
    assert main(['--rows', '1', '--img-size', '32', '-o', str(path)]) == 0
    with Image.open(path) as image:
        assert image.format == kind


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            '--mix-mode other',
            "--mix-mode must be one of none, mixup, cutmix, stochastic, hmix, gmix, puzzlemix, got 'other'",
        ),
        ('--grid hmix puzzlemix', '--mix-mode puzzlemix asks the model in training'),
        ('--mix-mode hmix --mixup-mode other', '--mixup-mode must be one of batch'),
        ('--grid mixup other', '--grid must be one of'),
        ('--mix-mode hmix --hmix-ratio 1.5', '--hmix-ratio must be a finite number between 0 and 1, got 1.5'),
        ('--mixup 1 --mixup-prob 2', '--mixup-prob must be a finite number between 0 and 1, got 2.0'),
        ('--mixup -1', '--mixup must be a finite number >= 0, got -1.0'),
        ('--mix-mode cutmix --hmix-ratio 0.5', '--hmix-ratio is for --mix-mode hmix, not for cutmix'),
        ('--mixup 1 --gmix-kernel paper', '--gmix-kernel needs --mix-mode'),
        ('--lam 0.5', '--lam is for --grid'),
        ('--grid hmix --lam 1.5', '--lam must be a finite number between 0 and 1, got 1.5'),
        ('--grid hmix --mix-alpha 1', '--mix-alpha is not for --grid'),
        ('--grid hmix --rows 2', '--rows is not for --grid'),
        ('--rows 0', f'--rows must be from 1 to {MAX_ROWS}, got 0'),
        ('--rows 1000', f'--rows must be from 1 to {MAX_ROWS}, got 1000'),
        ('--img-size 100000', '--img-size must be up to 1024 here, got 100000'),
        ('--seed -1', '--seed must be from 0 to'),
        ('--data-dir nowhere', '--data-dir nowhere: there is no such folder'),
        ('--config nowhere', "recipe 'nowhere' is neither a file nor a shipped recipe"),
        ('--data-dir x --images digits', 'not allowed with argument'),
        ('--no-such-option', 'unrecognized arguments: --no-such-option'),
        ('--aug-splits 2', '--aug-splits 2 compares augmentations'),
        ('-o picture', '--output must end in one of .png'),
        ('-o picture.tiff', '--output must end in one of .png'),
        ('-o .', '--output must end in one of .png'),
        ('-o /proc/nowhere/x.png', '--output: cannot write to /proc'),
        ('--mix-families nowhere.py', '--mix-families nowhere.py: there is no such file'),
    ],
)
def test_wrong_options_end_with_one_line(arguments, message, refused):
    line = refused(*arguments.split())
    assert line.startswith('hmix-preview: error: ') and message in line


def test_a_folder_as_output_is_refused(refused, tmp_path, capsys):
    (tmp_path / 'pictures.png').mkdir()
    with pytest.raises(SystemExit):
        main(['-o', 'pictures.png'])
    assert 'pictures.png is a folder' in capsys.readouterr().err
    assert not list((tmp_path / 'pictures.png').iterdir())


@pytest.mark.parametrize(
    ('recipe', 'message'),
    [
        ('lr: 0.1', 'nothing is mixed'),
        ('aug_splits: 3\nmix_mode: hmix', 'aug_splits of recipe'),
        ('naflex_loader: true\nmix_mode: hmix', 'naflex_loader of recipe'),
        ('mix_mode: other', '--mix-mode must be one of none, mixup'),
        ('mix_mode: hmix\nmix_preset: other', '--mix-preset must be one of imagenet, cifar100'),
        ('mix_mode: gmix\ngmix_kernel: other', '--gmix-kernel must be one of reference, paper'),
        ('mixup: 1\nepochs: many', "epochs: 'many'"),
        ('[1, 2]', 'must hold lines of "name: value"'),
    ],
)
def test_wrong_recipes_end_with_one_line(recipe, message, tmp_path_factory, refused):
    path = tmp_path_factory.mktemp('recipes') / 'recipe.yaml'
    path.write_text(recipe)
    assert message in refused('--config', path)


def test_neither_help_nor_a_typo_waits_for_torch():
    lines = [
        '--help',
        '--version',
        '--typo',
        '--rows 0',
        '-c digts',
        '--mix-mode hmx',
        '--grid hmix --typo',
        '--grid hmx',
    ]
    code = f"""
import sys
from train_patch import preview
for line in {lines}:
    try:
        preview.main(line.split())
    except SystemExit:
        print('imported:', [name for name in ('torch', 'timm', 'matplotlib', 'sklearn') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.count('imported: []\n') == len(lines), done.stdout + done.stderr


def test_without_scikit_learn_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'sklearn', None)  # how Python marks a module that cannot be imported
    assert main(['-o', str(tmp_path / 'x.png')]) == 1
    assert "pip install 'hmix-timm[demo]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_with_one_line_and_status_130(tmp_path, processes):
    process = processes.module('train_patch.preview', '--rows', MAX_ROWS, '-o', 'a.png', cwd=tmp_path)
    process.wait_until(lambda: 'Mixing: ' in process.stdout)  # the picture is drawn next
    process.interrupt()
    assert process.wait().status == 130
    assert process.stderr.splitlines()[-1] == 'hmix-preview: interrupted'
    assert os.listdir(tmp_path) == []


def test_every_option_is_explained_with_what_holds_without_it():
    parser = build_parser()
    shown = {action.dest: (action.metavar, action.help) for action in parser._actions}
    assert {dest: metavar for dest, (metavar, _) in shown.items()} == {
        'help': None,
        'version': None,
        'output': 'FILE',
        'rows': 'N',
        'seed': 'S',
        'data_dir': 'DIR',
        'images': None,
        'grid': 'MODE',
        'lam': 'L',
    }
    assert all(text for _, text in shown.values())
    for dest, default in {'output': 'preview.png', 'rows': '4', 'lam': '0.65'}.items():
        assert shown[dest][1].endswith(f'(default: {default})')
    assert f'up to {MAX_ROWS}' in shown['rows'][1] and f'(default: {SEED}, ' in shown['seed'][1]
    text = parser.format_help()
    assert 'Show what mixing does' in text and 'hmix-preview [-o FILE]' in text
    assert 'cifar100_wrn28_2, digits, fashion_mnist' in text and '--mix-mode {none,mixup,' in text
    assert text.count('--help') == 1
    # the epilog keeps its lines
    assert '\n  --img-size N, up to 1024, --aa, --reprob, --train-padding, …   what happens before mixing\n' in text


def asked(*line):
    options, rest = build_parser().parse_known_args(list(map(str, line)))
    return options, rest


def test_what_is_asked_for_without_a_word():
    options, rest = asked()
    assert (str(options.output), options.rows, options.seed, options.images, options.data_dir) == (
        'preview.png',
        None,
        SEED,
        None,
        None,
    )
    assert (options.grid, options.lam, rest) == (None, None, [])


@pytest.mark.parametrize(
    'line',
    [
        '--rows 1',
        f'--rows {MAX_ROWS}',
        '--seed 0',
        f'--seed {2**32 - 1}',
        '--grid hmix --lam 0',
        '--grid hmix --lam 1',
        *(f'-o picture{suffix}' for suffix in ('.png', '.JPG', '.jpeg', '.pdf', '.svg', '.webp')),
    ],
)
def test_what_is_just_allowed(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _check_options(asked(*line.split())[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('--rows 0', f'--rows must be from 1 to {MAX_ROWS}, got 0'),
        (f'--rows {MAX_ROWS + 1}', f'--rows must be from 1 to {MAX_ROWS}, got {MAX_ROWS + 1}'),
        ('--seed -1', '--seed must be from 0 to 4294967295, got -1'),
        (f'--seed {2**32}', '--seed must be from 0 to 4294967295, got 4294967296'),
        ('--grid hmix --lam -0.1', '--lam must be a finite number between 0 and 1, got -0.1'),
        ('--grid hmix --rows 4', '--rows is not for --grid, which shows one pair'),
        ('--lam 0', '--lam is for --grid, which is not given'),
        ('-o picture.tiff', '--output must end in one of .png, .jpg, .jpeg, .pdf, .svg, .webp, got picture.tiff'),
    ],
)
def test_what_is_just_not_allowed(line, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        _check_options(asked(*line.split())[0])
    assert str(caught.value) == says


def training(*line):
    return parse_training(*asked(*line))[0]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds what is taken for the digits, as nobody looks at them here."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr('train_patch.preview.digits_folder', digits_path)


def test_photographs_take_the_place_of_a_recipes_images(recipe):
    args = training('-c', recipe, '--images', 'photos')
    assert (args.dataset, args.data_dir, args.num_classes, args.img_size) == ('', None, None, 40)
    named = training('-c', 'cifar100_wrn28_2', '--mix-mode', 'hmix', '--images', 'photos')
    assert (named.dataset, named.data_dir, named.num_classes) == ('', None, None)


def test_the_digits_are_taken_as_their_recipe_takes_them(cache):
    own = training('-c', 'digits', '--mix-mode', 'hmix')
    assert (own.data_dir, own.dataset, own.num_classes) == (str(digits_path()), '', None)
    alone = training('--images', 'digits', '--mix-mode', 'hmix')
    assert vars(alone) == vars(own)


@pytest.mark.parametrize('recipe', ['cifar100_wrn28_2', 'imagenet_resnet50'])
def test_no_other_recipe_takes_the_digits_by_itself(cache, recipe):
    assert training('-c', recipe, '--mix-mode', 'hmix').data_dir is None


def test_the_digits_may_be_taken_as_another_recipe_would(cache):
    args = training('-c', 'cifar100_wrn28_2', '--images', 'digits', '--mix-mode', 'hmix')
    assert args.data_dir == str(digits_path()) and args.train_padding == 4 and args.model == 'cifar_wrn28_2'
    assert (args.dataset, args.num_classes) == ('', None)


def test_another_folder_takes_the_place_of_the_digits(tmp_path):
    args = training('-c', 'digits', '--data-dir', tmp_path, '--mix-mode', 'hmix')
    assert args.data_dir == str(tmp_path)


def test_without_images_of_its_own_a_recipe_keeps_its_data(recipe, image_folder):
    args = training('--config', recipe, '--num-classes', '4')
    assert (args.data_dir, args.num_classes) == (str(image_folder), 4)


@pytest.mark.parametrize('line', ['--img-size 1024', '--input-size 3 8 1024', '--input-size 3 1024 8'])
def test_sides_that_are_just_allowed(line):
    training(*line.split())


@pytest.mark.parametrize('line', ['--img-size 1025', '--input-size 3 8 1025', '--input-size 3 1025 8'])
def test_sides_that_are_just_not_allowed(line):
    with pytest.raises(ValueError, match=r'^--img-size must be up to 1024 here, got 1025$'):
        training(*line.split())


def test_the_channels_are_no_side():
    assert training('--input-size', '2000', '8', '8').input_size == [2000, 8, 8]


@pytest.mark.parametrize('key', ['naflex_loader', 'aug_splits', 'jsd_loss', 'train_img_sizes'])
def test_a_recipe_of_what_cannot_be_shown_is_refused(key, tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text(f'{key}: 2\n')
    with pytest.raises(ValueError, match=f'^{key} of recipe {path} must be off: what it delivers'):
        _read_shown_recipe(str(path))
    path.write_text(f'{key}: 0\nlr: 0.5\n')
    assert _read_shown_recipe(str(path)) == {key: 0, 'lr': 0.5}
    assert _read_shown_recipe(None) == {}


@pytest.fixture
def drawn(monkeypatch):
    """`drawn(…)`: the headline of the picture that a command line asks for, and its panels."""
    figures = []
    monkeypatch.setattr('train_patch.drawing.pictures.save_figure', lambda figure, path: figures.append(figure))

    def call(*line):
        assert main([*map(str, line), '--img-size', '32']) == 0
        return figures[-1].get_suptitle().replace('\n', ' '), figures[-1].axes

    return call


def titles(panels):
    return [panel.get_title() for panel in panels]


@pytest.mark.parametrize(('more', 'lam'), [([], '0.65'), (['--lam', '0.25'], '0.25'), (['--lam', '0'], '0')])
def test_a_grid_is_of_one_lambda(drawn, more, lam):
    headline, panels = drawn('--grid', 'mixup', 'none', *more)
    assert headline == f'λ = {lam}'
    assert {'Mixup', 'No mixing', f'A {float(lam):.3f}, B {1 - float(lam):.3f}'} <= set(titles(panels))


def test_a_grid_has_the_options_of_line_and_recipe(drawn, tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text('hmix_ratio: 0.25\nmix_preset: cifar100\n')
    _, panels = drawn('--grid', 'hmix', 'gmix', '--gmix-kernel', 'paper', '-c', path)
    assert {'HMix\nratio=0.25', 'GMix\nkernel=paper'} <= set(titles(panels))


@pytest.mark.parametrize('option', ['--mix-mode hmix', '--cutmix-mode hmix', '--mix-alpha 1', '--mix-literal'])
def test_what_is_not_for_a_grid_is_refused(option, refused):
    name = option.split()[0]
    assert f'{name} is not for --grid, which shows one pair with every mode at one λ' in refused(
        '--grid', 'hmix', *option.split()
    )


def test_options_of_timm_are_not_taken_for_abbreviations_of_the_group(drawn, capsys):
    drawn('--grid', 'hmix', '--cutmix', '0.25')
    assert 'replaced by --mix-mode none: --cutmix 0.25' in capsys.readouterr().out


def test_the_seed_of_a_grid_decides_where_its_boxes_are(drawn):
    def shown(seed):
        _, panels = drawn('--grid', 'cutmix', '--seed', seed)
        return [image.get_array().tolist() for panel in panels for image in panel.get_images()]

    assert shown(1) == shown(1) != shown(2)


@pytest.mark.parametrize(('more', 'rows'), [([], 4), (['--rows', '2'], 2)])
def test_there_are_four_rows_unless_others_are_asked_for(drawn, capsys, more, rows):
    headline, panels = drawn('--mix-mode', 'gmix', *more)
    assert headline.startswith('FastCollateMixup(GMix(alpha=1, kernel=reference)')
    assert titles(panels).count('mask M') == rows
    assert capsys.readouterr().out.splitlines() == [f'Mixing: {headline}', 'preview.png']


def test_a_recipe_that_mixes_by_itself_is_shown_as_it_is(drawn, tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text('model: test_resnet\nmixup: 0.25\n')
    for option in ('-c', '--config', '--conf'):  # abbreviated as in training
        assert 'Mixup(alpha=0.25)' in drawn(option, path, '--rows', '1')[0]
    path.write_text('model: test_resnet\n')
    with pytest.raises(SystemExit):
        drawn('--conf', path, '--rows', '1')


def test_the_words_of_the_process_are_taken_where_none_are_given(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['hmix-preview', '--version'])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and capsys.readouterr().out.startswith('hmix-preview ')


def test_a_timm_that_is_too_old_is_named_before_anything_is_drawn(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr('timm.__version__', '0.9.0')
    assert main(['-o', str(tmp_path / 'a.png')]) == 1
    assert 'timm 0.9.0 at ' in capsys.readouterr().err and list(tmp_path.iterdir()) == []
