"""What a command line means: the launch lines of its runs, and what is refused before anything is written."""

import shlex
import sys
from pathlib import Path

import pytest

from hmix_timm.families import FAMILIES
from train_patch.compare import main

MODES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')


@pytest.fixture
def lines(capsys):
    """`lines(argv)`: the launch lines of a dry run, each as its words."""

    def call(argv):
        assert main([*map(str, argv), '--dry-run']) == 0
        return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]

    return call


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, under which the cache lies too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'my cache'))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    return tmp_path


def options_of(words):
    """Option → value of the words behind the launcher's."""
    return dict(zip(words[::2], words[1::2], strict=True))


def test_a_dry_run_has_a_line_for_every_mode_and_seed(elsewhere, lines):
    seen = []
    for words in lines([]):
        assert words[:5] == ['env', 'OMP_NUM_THREADS=1', sys.executable, '-m', 'train_patch']
        options = options_of(words[5:])
        mode, seed = options['--mix-mode'], options['--seed']
        assert options['-c'].endswith('digits.yaml') and Path(options['-c']).is_file()
        assert options['--data-dir'] == str(elsewhere / 'my cache' / 'hmix_timm' / 'digits-v1')
        assert Path(options['--output'], options['--experiment']) == elsewhere / f'comparison/digits/{mode}/seed{seed}'
        assert options['--resume'] == 'auto'
        seen.append((mode, seed))
    assert seen == [(mode, seed) for seed in '012' for mode in MODES]


def test_a_dry_run_writes_nothing(elsewhere, lines):
    lines([])
    assert not list(elsewhere.iterdir())


def test_each_mode_gets_the_options_that_it_has_a_use_for(elsewhere, lines):
    argv = ['--hmix-ratio', '0.5', '--mix-alpha=0.3', '--gmix-kernel', 'paper', '-b', '20', '--seeds', '0']
    seen = {}
    for words in lines(argv):
        options = options_of(words[5:])
        assert options['-b'] == '20'
        own = ('--hmix-ratio', '--gmix-kernel', '--mix-alpha')
        seen[options['--mix-mode']] = {option: options[option] for option in own if option in options}
    alpha = {'--mix-alpha': '0.3'}
    assert seen == {
        **{'none': {}, 'mixup': alpha, 'cutmix': alpha, 'stochastic': alpha},
        **{'hmix': {**alpha, '--hmix-ratio': '0.5'}, 'gmix': {**alpha, '--gmix-kernel': 'paper'}},
    }


def test_the_literal_formulas_go_to_the_modes_that_have_a_mask(elsewhere, lines):
    literal = {words[words.index('--mix-mode') + 1]: '--mix-literal' in words for words in lines(['--mix-literal'])}
    assert literal == {mode: mode not in ('none', 'mixup') for mode in MODES}


def test_masks_of_the_cutmix_slot_are_compared_in_a_folder_of_their_own(work, elsewhere, lines):
    argv = [work / 'recipe.yaml', '--data-dir', work / 'data', '--cutmix', '1', '--seeds', '4']
    argv += ['--cutmix-modes', 'bbox', 'hmix', '--hmix-ratio', '0.25']
    seen = []
    for words in lines(argv):
        options = options_of(words[words.index('train_patch') + 1 :])
        mask = options['--cutmix-mode']
        place = Path(options['--output'], options['--experiment'])
        assert place == elsewhere / f'comparison/recipe-cutmix-modes/{mask}/seed4'
        assert '--mix-mode' not in options and options['--cutmix'] == '1'
        seen.append((mask, options.get('--hmix-ratio')))
    assert seen == [('bbox', None), ('hmix', '0.25')]


def test_masks_are_refused_where_the_recipe_has_no_cutmix(work, elsewhere, refused):
    message = refused([work / 'recipe.yaml', '--data-dir', work / 'data', '--cutmix-modes', 'bbox', 'hmix'])
    assert '--cutmix-mode bbox needs CutMix to be on' in message


def test_a_mode_of_ones_own_is_one_of_the_modes(work, elsewhere, lines):
    family = elsewhere / 'my_masks.py'
    family.write_text(
        'import numpy as np\n'
        'from hmix_timm import DenseMask, register_family\n'
        "@register_family('left', title='Left side', alpha=1.0, options={'part': 0.5})\n"
        'def left(size, lam, options, draws):\n'
        '    mask = np.zeros(size, np.float32)\n'
        '    mask[:, : round(lam * size[1])] = 1\n'
        '    return DenseMask(mask)\n'
    )
    argv = [work / 'recipe.yaml', '--data-dir', work / 'data', '--mix-families', family, '--modes', 'none', 'left']
    try:
        none, left = lines([*argv, '--left-part', '0.25', '--seeds', '0'])
    finally:
        FAMILIES.pop('left', None)
    assert all(str(family) in words for words in (none, left))
    assert '--left-part' not in none and left[left.index('--left-part') + 1] == '0.25'


def test_one_machine_of_many_processes_takes_any_free_port(elsewhere, lines):
    Path('my train.py').write_text((Path(__file__).parents[1] / 'launcher' / 'timm_like.py').read_text())
    argv = ['imagenet_resnet50', '--data-dir', '/no where', '--script', 'my train.py', '--modes', 'cutmix']
    (words,) = lines([*argv, '--seeds', '7', '--nproc_per_node', '8'])
    assert words[1:6] == ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=8', '-m']
    assert words[6:8] == ['train_patch', str(elsewhere / 'my train.py')]
    assert '--resume' not in words and words[words.index('--data-dir') + 1] == '/no where'


def test_many_machines_meet_where_they_are_told_to(elsewhere, lines):
    argv = ['imagenet_resnet50', '--data-dir', '/no where', '--modes', 'cutmix', '--seeds', '7']
    launch = ['--nproc-per-node=8', '--nnodes=2', '--rdzv-backend=c10d', '--rdzv-endpoint=host:29400']
    (words,) = lines([*argv, *launch])
    assert words[1:7] == ['-m', 'torch.distributed.run', *launch]


def test_many_machines_must_be_told_apart(elsewhere, refused):
    argv = ['imagenet_resnet50', '--data-dir', elsewhere, '--nproc-per-node', '8', '--nnodes', '2']
    assert '--node-rank' in refused(argv)  # machine 0 writes the results


WRONG = [
    (['--modes', 'hmixx'], "'hmixx'"),
    (['--modes', 'none', 'none'], '--modes none none'),
    (['--mode', 'hmix'], '--mode cannot be passed through: --modes'),
    (['--modes', 'none', '--cutmix-modes', 'bbox'], 'not allowed with argument'),
    (['--seeds', '-1'], '-1'),
    (['--seeds', 'one'], 'must be a whole number >= 0, got one'),
    (['--seeds', '1', '1'], '--seeds 1 1'),
    (['--seed', '1'], '--seeds'),
    (['--mix-mode', 'hmix'], '--modes'),
    (['--cutmix-mode', 'hmix'], '--cutmix-modes'),
    (['--experiment=first'], '--output DIR'),
    (['--exper', 'first'], '--output DIR'),
    (['--resume', 'auto'], 'interrupted runs are resumed'),
    (['-c', 'other'], 'the recipe is the first argument'),
    (['--epochs', '2', 'recipe.yaml'], 'must be the first argument'),
    (['digits', 'folder'], 'must be the first argument'),
    (['digit'], 'did you mean digits?'),
    (['imagenet_resnet50'], '--data-dir'),
    (['--script', 'nowhere/train.py'], 'nowhere/train.py'),
    (['--modes', 'gmix', 'none', '--hmix-ratio', '0.5'], '--hmix-ratio: none of --modes gmix none'),
    (['--modes', 'none', '--mix-alpha', '1'], '--mix-alpha'),
    (['--mix-alpha', '0'], '--mix-alpha must be'),
    (['--hmix-ratio', '1.5'], '--hmix-ratio must be'),
    (['--hmix-ratio', '0.5', '--hmix-gamma', '1'], 'give one of them'),
    (['--gmix-kernel', 'papr'], "'papr'"),
    (['--node-rank', 'first'], 'first'),
    (['--jobs', '0'], 'must be a whole number >= 1, got 0'),
    (['--jobs', '2', '--nproc-per-node', '2'], '--jobs 2 cannot go with --nproc-per-node'),
    (['--jobs', '2', '--device', 'cuda:1'], '--device cuda:1'),
    (['--epochs', 'sixty'], "argument --epochs: invalid int value: 'sixty'"),
    (['--no-such-option', '1'], 'unrecognized arguments: --no-such-option'),
    (['--smoothing', '2'], 'argument --smoothing: 2: must be '),
    (['--jsd-loss'], '--jsd-loss needs --aug-splits'),
    (['--model', 'test_mambaoot'], 'the nearest is test_mambaout'),
]


@pytest.mark.parametrize(('argv', 'named'), WRONG)
def test_wrong_arguments_are_refused_by_name_before_anything_is_written(elsewhere, refused, argv, named):
    message = refused(argv)
    assert named in message and message.splitlines()[-1].startswith('hmix-compare: error: ')
    assert not list(elsewhere.iterdir())
    # and a dry run refuses what a run would refuse
    assert refused([*argv, '--dry-run']) == message


WRONG_DATA = [
    (['--data-dir', '/nowhere'], '--data-dir /nowhere: there is no such folder'),
    (['--data-dir', '.'], 'there is no folder train/ in it'),
    (['--num-classes', '3'], 'the data has 2 classes; pass --num-classes 2'),
    (['--model', 'test_mambaoot'], 'the nearest is test_mambaout'),
    (['--opt', 'adamww'], '--opt adamww'),
    (['--dataset', 'torch/cifar100'], '--dataset-download'),
]


@pytest.mark.parametrize(('argv', 'named'), WRONG_DATA)
def test_what_training_itself_would_refuse_is_refused_before_the_first_run(elsewhere, arguments, refused, argv, named):
    assert named in refused([*arguments('runs'), *argv])
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(('argv', 'named'), WRONG_DATA[1:])
def test_a_dry_run_refuses_that_too(elsewhere, arguments, refused, argv, named):
    assert named in refused([*arguments('runs'), *argv, '--dry-run'])


def test_a_dry_run_says_that_data_of_another_machine_were_not_checked(elsewhere, capsys):
    assert main(['imagenet_resnet50', '--data-dir', '/nowhere', '--dry-run', '--seeds', '0']) == 0
    assert '# the data are not on this machine' in capsys.readouterr().err


@pytest.mark.parametrize(
    'content', ['- a list', 'a: [1', '!!python/object/apply:os.system ["touch hacked"]', '\x00', 'model']
)
def test_a_file_that_is_no_recipe_is_refused(elsewhere, refused, content):
    Path('recipe.yaml').write_text(content)
    assert 'recipe.yaml' in refused(['recipe.yaml', '--data-dir', '.'])
    assert [path.name for path in elsewhere.iterdir()] == ['recipe.yaml']


def test_missing_packages_are_named_before_anything_is_trained(arguments, tmp_path, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # Python's own way of saying: not there
    message = refused(arguments(tmp_path / 'runs'))
    assert 'matplotlib' in message and "pip install 'hmix-timm[demo]'" in message
    assert not (tmp_path / 'runs').exists()
