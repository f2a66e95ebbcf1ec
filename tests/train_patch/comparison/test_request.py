"""The launch lines that a command line asks for, and wrong arguments, refused before anything is written."""

import shlex
import sys
from pathlib import Path

import pytest

from hmix_timm.families import FAMILIES
from train_patch.compare import main

MODES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
TIMM_LIKE = Path(__file__).parents[1] / 'launcher' / 'timm_like.py'


@pytest.fixture
def lines(capsys):
    """`lines(argv)`: the launch lines of a dry run, each as its words."""

    def call(argv):
        assert main([*map(str, argv), '--dry-run']) == 0
        return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]

    return call


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, which holds the cache too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'my cache'))
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    return tmp_path


def options_of(words):
    """Option → value of the words behind the module's name."""
    words = words[words.index('train_patch') + 1 :]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_a_dry_run_prints_a_launch_line_for_every_mode_and_seed_and_writes_nothing(elsewhere, lines):
    seen = []
    for words in lines([]):
        assert words[:3] == [sys.executable, '-m', 'train_patch']  # nothing of this machine, such as its threads
        options = options_of(words)
        mode, seed = options['--mix-mode'], options['--seed']
        assert options['-c'].endswith('digits.yaml') and Path(options['-c']).is_file()
        assert options['--data-dir'] == str(elsewhere / 'my cache' / 'hmix_timm' / 'digits-v1')
        assert Path(options['--output'], options['--experiment']) == elsewhere / f'comparison/digits/{mode}/seed{seed}'
        assert options['--resume'] == 'auto'
        seen.append((mode, seed))
    assert seen == [(mode, seed) for seed in '012' for mode in MODES]
    assert not list(elsewhere.iterdir())


def test_each_mode_gets_the_mixing_options_that_it_uses(elsewhere, lines):
    argv = ['--hmix-ratio', '0.5', '--mix-alpha=0.3', '--gmix-kernel', 'paper', '-b', '20', '--seeds', '0']
    seen = {}
    for options in map(options_of, lines(argv)):
        assert options['-b'] == '20'
        own = ('--hmix-ratio', '--gmix-kernel', '--mix-alpha')
        seen[options['--mix-mode']] = {option: options[option] for option in own if option in options}
    alpha = {'--mix-alpha': '0.3'}
    kernel, ratio = {**alpha, '--gmix-kernel': 'paper'}, {**alpha, '--hmix-ratio': '0.5'}
    assert seen == {'none': {}, 'mixup': alpha, 'cutmix': alpha, 'stochastic': alpha, 'hmix': ratio, 'gmix': kernel}


def test_the_literal_formulas_go_to_the_modes_that_have_a_mask(elsewhere, lines):
    literal = {words[words.index('--mix-mode') + 1]: '--mix-literal' in words for words in lines(['--mix-literal'])}
    assert literal == {mode: mode not in ('none', 'mixup') for mode in MODES}


def test_masks_of_the_cutmix_slot_are_compared_in_a_folder_of_their_own(work, elsewhere, lines):
    argv = [work / 'recipe.yaml', '--data-dir', work / 'data', '--cutmix', '1', '--cutmix-m', '0.2', '0.8']
    argv += ['--seeds', '4', '--cutmix-modes', 'bbox']
    (words,) = lines(argv)
    minmax = words.index('--cutmix-m')  # an abbreviation of timm's option, not of --cutmix-mode
    assert words[minmax : minmax + 3] == ['--cutmix-m', '0.2', '0.8']
    argv = [work / 'recipe.yaml', '--data-dir', work / 'data', '--cutmix', '1', '--seeds', '4']
    seen = []
    for options in map(options_of, lines([*argv, '--cutmix-modes', 'bbox', 'hmix', '--hmix-ratio', '0.25'])):
        mask = options['--cutmix-mode']
        place = Path(options['--output'], options['--experiment'])
        assert place == elsewhere / f'comparison/recipe-cutmix-modes/{mask}/seed4'
        assert '--mix-mode' not in options and options['--cutmix'] == '1'
        seen.append((mask, options.get('--hmix-ratio')))
    assert seen == [('bbox', None), ('hmix', '0.25')]


def places_of(lines):
    """Folder of a run → the options in its line that the command line may have varied."""
    varied = ('--hmix-ratio', '--mix-alpha', '--lr', '--epochs')
    seen = {}
    for options in map(options_of, lines):
        place = Path(options['--output'], options['--experiment'])
        seen[f'{place.parent.name}/{place.name}'] = {option: options[option] for option in varied if option in options}
    return seen


def test_an_option_varies_where_a_mode_has_a_use_for_it_and_several_make_a_grid(elsewhere, lines):
    argv = ['--modes', 'none', 'hmix', 'gmix:mix_alpha=0.5', '--seeds', '0', '--mix-alpha', '0.3']
    assert places_of(lines([*argv, '--vary', 'hmix-ratio=0.25,0.5', '--vary', 'lr=1e-3,2e-3'])) == {
        **{f'none lr={lr}/seed0': {'--lr': lr} for lr in ('1e-3', '2e-3')},
        **{
            f'hmix hmix_ratio={ratio} lr={lr}/seed0': {'--hmix-ratio': ratio, '--mix-alpha': '0.3', '--lr': lr}
            for ratio in ('0.25', '0.5')
            for lr in ('1e-3', '2e-3')
        },
        **{f'gmix mix_alpha=0.5 lr={lr}/seed0': {'--mix-alpha': '0.5', '--lr': lr} for lr in ('1e-3', '2e-3')},
    }


def test_settings_of_one_mode_beat_the_others_and_what_varies(elsewhere, lines):
    argv = ['--modes', 'hmix:hmix_ratio=0.5,mix_alpha=0.2', 'hmix', '--vary', 'hmix_ratio=0,1', '--seeds', '0']
    seen = places_of(lines(argv))
    assert seen['hmix hmix_ratio=0.5 mix_alpha=0.2/seed0'] == {'--hmix-ratio': '0.5', '--mix-alpha': '0.2'}
    assert list(seen)[1:] == ['hmix hmix_ratio=0/seed0', 'hmix hmix_ratio=1/seed0']


def test_flags_lists_and_names_with_a_slash_vary_too(elsewhere, lines):
    argv = ['--modes', 'none', '--seeds', '0', '--vary', 'opt_betas=0.5 0.9,0.8 0.9', '--vary', 'model_ema=true,false']
    words, *_, last = lines(argv)
    betas = words.index('--opt-betas')
    assert words[betas + 1 : betas + 4] == ['0.5', '0.9', '--model-ema'] and '--model-ema' not in last
    assert words[words.index('--output') + 1].endswith('none opt_betas=0.5,0.9 model_ema=true')
    (words,) = lines(['--modes', 'none', '--seeds', '0', '--vary', 'wandb_project=a/b'])
    assert words[words.index('--output') + 1].endswith('none wandb_project=a%2Fb')


def test_a_family_of_ones_own_is_one_of_the_modes(work, elsewhere, lines):
    family = elsewhere / 'my_masks.py'
    family.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('even', title='Even', options={'by': 1.0})\n"
        'def even(size, lam, options, draws):\n'
        '    return BoxMask(lam)\n'
    )
    argv = [work / 'recipe.yaml', '--data-dir', work / 'data', '--mix-families', family, '--modes', 'none', 'even']
    try:
        none, even = lines([*argv, '--even-by', '2', '--seeds', '0'])
    finally:
        FAMILIES.pop('even', None)
    assert all(str(family) in words for words in (none, even))
    assert '--even-by' not in none and even[even.index('--even-by') + 1] == '2'


def test_the_command_line_beats_a_recipe_that_could_not_be_trained(elsewhere, lines, tmp_path):
    recipe = tmp_path / 'mine.yaml'
    recipe.write_text('model: test_resnet\naug_splits: 2\ndataset: tfds/x\nmixup: none\n')
    line = [recipe, '--aug-splits', '0', '--dataset=', '--data-dir', '/no where', '--modes', 'hmix', '--seeds', '1']
    assert len(lines(line)) == 1


def test_a_run_of_many_processes_is_one_of_torchrun_and_paths_are_absolute(elsewhere, lines, monkeypatch):
    """And the script is asked in an environment in which it loads what it likes."""
    names = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    monkeypatch.delenv(names[0], raising=False)
    monkeypatch.setenv(names[1], '1')
    seen = f'print(*map(os.environ.get, {names}), file=open("seen", "w"))\n'
    Path('my train.py').write_text(TIMM_LIKE.read_text() + seen)
    argv = ['imagenet_resnet50', '--data-dir', '/no where', '--script', 'my train.py', '--modes', 'cutmix']
    (words,) = lines([*argv, '--seeds', '7', '--nproc_per_node', '8', '--output', 'here'])
    assert words[1:6] == ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=8', '-m']
    assert words[6:8] == ['train_patch', str(elsewhere / 'my train.py')]
    assert words[words.index('--output') + 1] == str(elsewhere / 'here' / 'cutmix')
    assert '--resume' not in words and words[words.index('--data-dir') + 1] == '/no where'
    assert Path('seen').read_text() == 'None 1\n'


def test_launch_lines_work_from_any_folder(work, elsewhere, lines):
    Path('masks.py').write_text(
        "from hmix_timm import BoxMask, register_family\n@register_family('thin')\n"
        'def thin(size, lam, options, draws):\n    return BoxMask(lam)\n'
    )
    recipe = elsewhere / 'my.yaml'
    recipe.write_text((work / 'recipe.yaml').read_text() + 'class_map: names.txt\n')
    argv = ['--mix-families=masks.py', '--modes', 'thin', '--seeds', '0']
    try:
        for data in (['--data-dir', 'data'], ['--data-dir=data'], ['data']):
            (words,) = lines(['my.yaml', *data, *argv])
            named = {'my.yaml', 'data', 'masks.py', 'names.txt'}
            assert {str(elsewhere / name) for name in named} <= {*words} - named
    finally:
        FAMILIES.pop('thin', None)
    (words,) = lines(['my.yaml', '--data-dir', 'hmix', '--modes', 'hmix', '--seeds', '0', '--wandb-project', 'hmix'])
    assert [words[words.index(option) + 1] for option in ('--mix-mode', '--wandb-project')] == ['hmix'] * 2
    assert words.count(str(elsewhere / 'hmix')) == 1


def test_a_mode_or_seed_that_is_given_twice_is_trained_once(elsewhere, lines):
    assert len(lines(['--modes', 'none', 'hmix', 'none', '--seeds', '1', '1'])) == 2


def test_data_need_no_folder_if_their_source_has_none(elsewhere, lines, refused):
    argv = ['imagenet_resnet50', '--modes', 'none', '--seeds', '0']
    assert '--dataset' in lines([*argv, '--dataset', 'hfds/somebody/something'])[0]
    message = 'recipe imagenet_resnet50 needs data: give its folder with --data-dir'
    assert message in refused([*argv, '--dataset', 'torch/imagenet'])


@pytest.mark.parametrize('data', [[], ['imagenet_resnet50', '--data-dir', 'nowhere']])
def test_a_dry_run_says_that_missing_data_were_not_checked(elsewhere, capsys, data):
    assert main([*data, '--dry-run', '--seeds', '0']) == 0
    assert capsys.readouterr().err == '# the data are not on this machine yet, so they were not checked\n'


WRONG = [
    (['--modes', 'hmixx'], '--modes hmixx: must be one of none, mixup'),
    (['--modes', 'none', '--cutmix-modes', 'bbox'], 'not allowed with argument'),
    (['--cutmix-modes', 'bbox', 'hmix'], '--cutmix-mode bbox needs CutMix to be on'),
    (['--seeds', '-1'], '-1'),
    (['--seeds', 'one'], 'must be a whole number >= 0, got one'),
    (['--jobs', '0'], 'must be a whole number >= 1, got 0'),
    (['--nproc-per-node', 'many'], 'must be a whole number >= 1, got many'),
    (['--jobs', '2', '--nproc-per-node', '2'], 'not allowed with argument --jobs'),
    (['--jobs', '2', '--device', 'cuda:1'], '--device cuda:1 is one device'),
    (['--submit-option', 'nodes=2'], '--submit-option needs --submit'),
    (['--submit', 'local', '--submit-option', 'nodes'], "'nodes' must be KEY=VALUE"),
    (['--submit', 'local', '--submit-option', 'nodes=two'], '--submit-option nodes=two: must be a whole number'),
    (['--submit', 'local', '--submit-option', 'slurm_comment=[a'], '--submit-option while parsing a flow sequence'),
    (['--submit', 'local', '--jobs', '2'], 'not allowed with argument --submit'),
    (['--script', 'nowhere/train.py'], '--script nowhere/train.py: no such file'),
    # options of each run, and their abbreviations
    (['--seed', '1'], '--seed cannot be passed through: --seeds'),
    (['--mode', 'hmix'], '--mode cannot be passed through: --modes'),
    (['--mix-mode', 'hmix'], '--mix-mode cannot be passed through: --modes'),
    (['--cutmix-mo', 'hmix'], '--cutmix-mo cannot be passed through: --cutmix-modes'),
    (['--exper=first'], '--exper=first cannot be passed through: --output DIR'),
    (['--resume', 'auto'], 'interrupted runs are resumed'),
    (['-cother'], '-cother cannot be passed through: the recipe is the first argument'),
    (['--nnodes', '2'], '--nnodes cannot be passed through: start a run on several machines with torchrun'),
    (['--epochs', '2', 'recipe.yaml'], "'recipe.yaml': a recipe must be the first argument"),
    (['digit'], 'did you mean digits?'),
    (['imagenet_resnet50'], '--data-dir'),
    # options that no row uses, or that training refuses
    (['--modes', 'gmix', 'none', '--hmix-ratio', '0.5'], '--hmix-ratio has no effect on any of --modes gmix none'),
    (['--cutmix', '1', '--cutmix-modes', 'bbox', '--hmix-ratio', '1'], 'on any of --cutmix-modes bbox'),
    (['--hmix-ratio', '1.5'], '--hmix-ratio must be'),
    (['--modes', 'none', '--vary', 'hmix_ratio=0,1'], '--hmix-ratio has no effect on any of --modes none'),
    (['--modes', 'none', '--vary', 'mixup_prob=0,1'], '--mixup-prob has no effect on any of --modes none'),
    (['--vary', 'hmix_ratio=0,2'], '--hmix-ratio must be'),
    (['--vary', 'seed=0,1'], '--seed cannot be passed through: --seeds'),
    (['--vary', 'wandb_proj=a'], "training has no option 'wandb_proj'"),
    (['--modes', 'none', '--vary', 'no_aug=false'], 'the recipe turns no_aug on, and no option turns it off'),
    (['--vary', 'lr'], "'lr' must be KEY=VALUE"),
    (['--vary', 'lr=1e-1,0.1'], "rows 'none lr=1e-1' and 'none lr=0.1' would train the same"),
    (['--modes', 'hmix', 'hmix:hmix_ratio=0.75'], "rows 'hmix' and 'hmix hmix_ratio=0.75' would train the same"),
    (['--modes', 'hmix:gmix_kernel=paper'], '--gmix-kernel'),
    (['--epochs', 'sixty'], "argument --epochs: invalid int value: 'sixty'"),
    (['--no-such-option', '1'], 'unrecognized arguments: --no-such-option'),
    (['--model', 'test_mambaoot'], 'the nearest is test_mambaout'),
]


@pytest.mark.parametrize(('argv', 'named'), WRONG)
def test_wrong_arguments_are_refused_by_name_before_anything_is_written(elsewhere, refused, argv, named):
    message = refused(argv)
    assert named in message and message.splitlines()[-1].startswith('hmix-compare: error: ')
    assert not list(elsewhere.iterdir())
    # and a dry run refuses what a run would refuse
    assert refused([*argv, '--dry-run']) == message


@pytest.mark.parametrize(
    ('argv', 'named'),
    [
        (['--data-dir', '/nowhere'], '--data-dir /nowhere: there is no such folder'),
        (['--data-dir', '.'], 'there is no folder train/ in it'),
        (['--num-classes', '3'], 'the data has 2 classes; pass --num-classes 2'),
        (['--opt', 'adamww'], '--opt adamww'),
        (['--aug-repeats', '3'], '--aug-repeats 3 works on several processes only'),
        (['--dataset', 'torch/cifar100'], '--dataset-download'),
    ],
)
def test_what_training_would_refuse_is_refused_before_the_first_run(elsewhere, arguments, refused, argv, named):
    message = refused([*arguments('runs'), *argv])
    assert named in message and not list(elsewhere.iterdir())
    if argv[-1] != '/nowhere':  # which may be a folder of the machine that trains
        assert refused([*arguments('runs'), *argv, '--dry-run']) == message


@pytest.mark.parametrize('content', ['- a list', '!!python/object/apply:os.system ["touch hacked"]', '\x00'])
def test_a_file_that_is_no_recipe_is_refused(elsewhere, refused, content):
    Path('recipe.yaml').write_text(content)
    assert 'recipe.yaml' in refused(['recipe.yaml', '--data-dir', '.'])
    assert [path.name for path in elsewhere.iterdir()] == ['recipe.yaml']
