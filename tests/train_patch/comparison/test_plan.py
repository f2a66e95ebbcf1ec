"""What a command line means: the launch lines of its runs, and what is refused before anything is written."""

import dataclasses
import shlex
import sys
from pathlib import Path

import pytest

from hmix_timm.families import FAMILIES
from hmix_timm.modes import mix_modes
from train_patch.compare import main
from train_patch.comparison.plan import TORCHRUN_OPTIONS, build_parser
from train_patch.data.digits import digits_path

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
        'none': {},
        'mixup': alpha,
        'cutmix': alpha,
        'stochastic': alpha,
        'hmix': {**alpha, '--hmix-ratio': '0.5'},
        'gmix': {**alpha, '--gmix-kernel': 'paper'},
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
    (['--modes', 'gmix', 'none', '--hmix-ratio', '0.5'], '--hmix-ratio has no effect on any of --modes gmix none'),
    (['--modes', 'none', '--mix-alpha', '1'], '--mix-alpha'),
    (['--mix-alpha', '0'], '--mix-alpha must be'),
    (['--hmix-ratio', '1.5'], '--hmix-ratio must be'),
    (['--hmix-ratio', '0.5', '--hmix-gamma', '1'], '--hmix-ratio has no effect beside --hmix-gamma'),
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


def test_every_option_is_explained_with_what_holds_without_it():
    parser = build_parser()
    assert parser.prog == 'hmix-compare' and parser.description
    shown = {action.dest: (action.metavar, action.help) for action in parser._actions}
    assert all(text for _, text in shown.values())
    letters = {dest: metavar for dest, (metavar, _) in shown.items()}
    assert letters == {
        'help': None,
        'recipe': 'RECIPE',
        'modes': 'MODE',
        'cutmix_modes': 'MASK',
        'seeds': 'K',
        'output': 'DIR',
        'jobs': 'N',
        'script': 'TRAIN.PY',
        'dry_run': None,
        'version': None,
        'mix_alpha': 'A',
        'mix_literal': None,
        'hmix_ratio': 'R',
        'hmix_gamma': 'G',
        'gmix_kernel': '{reference,paper}',
        **dict.fromkeys((option[2:].replace('-', '_') for option in TORCHRUN_OPTIONS), 'X'),
    }
    for dest, default in {'modes': ' '.join(MODES), 'seeds': '0 1 2', 'jobs': '1', 'recipe': 'digits'}.items():
        assert shown[dest][1].endswith(f'(default: {default})')
    assert 'bbox, hmix, gmix' in shown['cutmix_modes'][1]


def test_without_arguments_it_is_the_papers_comparison_on_the_digits(elsewhere, plan):
    comparison = plan(['digits'])
    assert [variant.name for variant in comparison.variants] == list(MODES)
    assert (comparison.seeds, comparison.jobs, comparison.script) == ((0, 1, 2), 1, None)
    assert (comparison.torchrun, comparison.node_rank, comparison.arguments) == ((), 0, ())
    assert comparison.output == elsewhere / 'comparison' / 'digits' and comparison.on_digits
    assert not any(variant.changed for variant in comparison.variants)
    assert comparison.plain['mix_mode'] is None and comparison.plain['epochs'] == comparison.training['epochs']


def test_each_row_has_its_arguments_and_the_colour_of_its_mode(arguments, plan, tmp_path):
    comparison = plan([*arguments(tmp_path), '--modes', 'gmix', 'none', '--gmix-kernel', 'paper', '--mix-literal'])
    gmix, none = comparison.variants
    assert gmix.arguments == ('--mix-mode', 'gmix', '--mix-literal', '--gmix-kernel', 'paper') and gmix.changed
    assert none.arguments == ('--mix-mode', 'none') and not none.changed
    assert (gmix.colour, none.colour) == (mix_modes()['gmix'].colour, mix_modes()['none'].colour)
    assert comparison.training is comparison.resolved['gmix']
    assert {name: values['mix_mode'] for name, values in comparison.resolved.items()} == {
        'gmix': 'gmix',
        'none': 'none',
    }


def test_masks_have_the_colours_of_their_families(arguments, plan, tmp_path):
    argv = [*arguments(tmp_path, '--cutmix', '1'), '--cutmix-modes', 'gmix', 'hmix', 'bbox', '--mix-literal']
    comparison = plan(argv)
    assert [(v.name, v.colour, v.arguments) for v in comparison.variants] == [
        (name, FAMILIES[name].colour, ('--cutmix-mode', name, '--mix-literal')) for name in ('gmix', 'hmix', 'bbox')
    ]
    assert comparison.baselines == ('bbox',)


def test_rows_are_held_against_no_mixing_and_cutmix_where_they_are_there(arguments, plan, tmp_path):
    assert plan([*arguments(tmp_path), '--modes', 'cutmix', 'hmix', 'none']).baselines == ('none', 'cutmix')
    assert plan([*arguments(tmp_path), '--modes', 'hmix', 'cutmix']).baselines == ('cutmix',)
    assert plan([*arguments(tmp_path), '--modes', 'hmix', 'gmix']).baselines == ()


@pytest.mark.parametrize(
    ('launch', 'words', 'processes', 'count'),
    [
        ([], (), [], 1),
        (['--nproc-per-node', '3'], ('--standalone', '--nproc-per-node=3'), ['--nproc-per-node=3'], 3),
        (
            ['--nproc_per_node=3', '--nnodes', '2', '--node-rank', '1', '--master-addr', 'a', '--master-port', '7'],
            ('--nproc-per-node=3', '--nnodes=2', '--node-rank=1', '--master-addr=a', '--master-port=7'),
            ['--nproc-per-node=3', '--nnodes=2'],
            6,
        ),
        (['--nproc-per-node', 'gpu'], ('--standalone', '--nproc-per-node=gpu'), ['--nproc-per-node=gpu'], 1),
        (
            [
                '--rdzv-backend',
                'c10d',
                '--rdzv-endpoint',
                'h:1',
                '--rdzv-id',
                'x',
                '--rdzv-conf',
                'a=b',
                '--nnodes',
                '1',
            ],
            ('--nnodes=1', '--rdzv-backend=c10d', '--rdzv-endpoint=h:1', '--rdzv-id=x', '--rdzv-conf=a=b'),
            ['--nnodes=1'],
            1,
        ),
    ],
)
def test_torchruns_options_are_handed_on(arguments, plan, tmp_path, launch, words, processes, count):
    comparison = plan([*arguments(tmp_path), '--modes', 'none', *launch])
    assert (comparison.torchrun, comparison.processes) == (words, processes)
    assert comparison.processes_of_a_run == count


@pytest.mark.parametrize(('more', 'rank'), [([], 0), (['--node-rank', '3'], 3), (['--nnodes', '1'], 0)])
def test_machines_are_numbered_from_0(arguments, plan, tmp_path, more, rank):
    assert plan([*arguments(tmp_path), '--modes', 'none', *more]).node_rank == rank


@pytest.mark.parametrize(
    ('more', 'says'),
    [
        (['--node-rank', '-1'], '--node-rank -1: not a whole number from 0 on'),
        (['--nnodes', '2'], '--nnodes 2 needs --node-rank: machine 0 writes the results'),
        (['--jobs', '3', '--nnodes', '1'], '--jobs 3 cannot go with --nnodes: that run has the machine alone'),
        (['--experiment', 'x'], '--experiment cannot be passed through: --output DIR holds all runs'),
        (['--exp=x'], '--exp=x cannot be passed through (--experiment): --output DIR holds all runs'),
        (['--cutmix-mo', 'x'], '--cutmix-mo cannot be passed through (--cutmix-mode): --cutmix-modes says which masks'),
        (['-cother'], '-cother cannot be passed through: the recipe is the first argument'),
        (['--epochs', '2', 'b.yml'], "'b.yml': a recipe must be the first argument"),
        (['word'], "'word' is no option; a recipe must be the first argument"),
        (['--seeds', '4', '5', '4'], '--seeds 4 5 4: one is there twice'),
        (['--cutmix', '1', '--cutmix-modes', 'bbox', 'bbox'], '--cutmix-modes bbox bbox: one is there twice'),
        (['--script', 'nowhere.py'], '--script nowhere.py: no such file'),
        (['--script', '/'], '--script /: no such file'),
        (['--cutmix-modes', 'bbox', '--hmix-ratio', '1'], '--hmix-ratio has no effect on any of --cutmix-modes bbox'),
    ],
)
def test_what_is_wrong_is_said_in_full(arguments, plan, tmp_path, more, says):
    modes = [] if '--cutmix-modes' in more else ['--modes', 'none']
    with pytest.raises(ValueError) as caught:
        plan([*arguments(tmp_path), *modes, *more] if more != ['word'] else [arguments(tmp_path)[0], *more])
    assert str(caught.value).startswith(says)


def test_what_abbreviates_timms_options_is_passed_through(arguments, plan, tmp_path):
    given = ('--cutmix-m', '0.2', '0.8', '--cutmix', '1', '--aug-rep', '0')
    assert plan([*arguments(tmp_path), '--modes', 'none', *given]).arguments[-len(given) :] == given


def test_data_need_no_folder_where_their_source_has_none(plan, tmp_path):
    line = ['imagenet_resnet50', '--output', tmp_path, '--modes', 'none']
    assert plan([*line, '--dataset', 'hfds/somebody/something']).training['data_dir'] is None
    with pytest.raises(ValueError, match=r'^recipe imagenet_resnet50 needs data: give its folder with --data-dir$'):
        plan([*line, '--dataset', 'torch/imagenet'])


@pytest.mark.parametrize(
    ('more', 'digits'),
    [([], True), (['--data-dir', '/other'], False), (['--dataset', 'torch/qmnist'], False), (['--epochs', '1'], True)],
)
def test_the_digits_are_the_recipes_own_data(elsewhere, plan, more, digits):
    assert plan(['digits', '--modes', 'none', *more]).on_digits == digits


def test_another_recipe_may_be_trained_on_the_digits_folder(elsewhere, arguments, plan, tmp_path):
    assert not plan([*arguments(tmp_path), '--modes', 'none']).on_digits
    assert plan([*arguments(tmp_path, '--data-dir', digits_path()), '--modes', 'none']).on_digits


def test_the_command_of_a_run_holds_all_of_it_in_order(arguments, plan, tmp_path):
    comparison = plan([*arguments(tmp_path, '--lr', '0.5'), '--modes', 'hmix', '--seeds', '3', '--nproc-per-node', '2'])
    comparison = dataclasses.replace(comparison, script=Path('/timm/train.py'))
    words = comparison.command(comparison.variants[0], 3, tmp_path / 'a' / 'b', {'X': '1', 'Y': '2'})
    # fmt: off
    assert words == [
        'env', 'X=1', 'Y=2', sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2',
        '-m', 'train_patch', '/timm/train.py', '-c', str(comparison.recipe), '--mix-mode', 'hmix',
        '--data-dir', comparison.training['data_dir'], '--lr', '0.5',
        '--seed', '3', '--output', str(tmp_path / 'a'), '--experiment', 'b',
    ]
    # fmt: on
    assert comparison.command(comparison.variants[0], 3, tmp_path, {})[0] == sys.executable


def test_paths_are_made_whole(work, plan, monkeypatch):
    monkeypatch.chdir(work)
    comparison = plan(['recipe.yaml', '--data-dir', 'data', '--output', 'out', '--modes', 'none'])
    assert (comparison.recipe, comparison.output) == (work / 'recipe.yaml', work / 'out')
