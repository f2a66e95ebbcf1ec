"""Scripts that mix with timm's Mixup, unedited: as real processes, on scripts of the shapes that are in public use."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .conftest import SCRIPTS, check_hmix, label_weight, mask_of

DEIT, SWIN, SPAWNING = SCRIPTS / 'deit_like' / 'main.py', SCRIPTS / 'swin_like' / 'main.py', SCRIPTS / 'spawning.py'
MODULE = '-m packaged.train'
HMIX = 'Mixup(HMix(alpha=1, ratio=0.75), mode=batch, prob=1, label_smoothing=0.1, num_classes=5)'
OUTPUT = '--output {folder}'


@pytest.fixture(scope='module')
def hmix_run(launch):
    return launch('--mix-mode hmix', DEIT, f'{OUTPUT} --epochs 3 --smoothing 0.1').passed()


def test_a_script_mixes_by_hmix_and_one_line_says_so(hmix_run):
    check_hmix(hmix_run.record()['batches'])
    assert hmix_run.mixing_lines == [HMIX]


def test_a_script_runs_as_python_would_run_it_with_its_own_arguments(hmix_run):
    record = hmix_run.record()
    assert (record['name'], record['path'], record['file']) == ('__main__', str(DEIT.parent), str(DEIT))
    assert record['argv'][1:] == ['--output', str(hmix_run.folder), '--epochs', '3', '--smoothing', '0.1']
    assert (record['args']['mixup'], record['args']['cutmix']) == (0.8, 1.0)


def test_a_configuration_script_mixes_by_hmix(launch):
    run = launch('--mix-mode hmix --hmix-ratio 0.5', SWIN, '--opts OUTPUT {folder}').passed()
    check_hmix(run.record()['batches'])
    assert run.mixing_lines == [HMIX.replace('0.75', '0.5')]


def test_without_a_mode_a_run_is_plain_pythons(launch):
    line = f'{OUTPUT} --epochs 2 --mixup-mode elem --mixup-prob 0.8'
    plain = launch('', DEIT, line, plain=True).passed().record()['batches']
    ours = launch('', DEIT, line).passed().record()['batches']
    assert len(plain) == len(ours) == 8
    for (*_, timms, timms_targets, _), (*_, mixed, targets, _) in zip(plain, ours, strict=True):
        torch.testing.assert_close(mixed, timms, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(targets, timms_targets, atol=1e-5, rtol=1e-5)


def test_literal_masks_reach_a_script_whose_own_prob_mode_and_smoothing_hold(launch):
    line = f'{OUTPUT} --epochs 2 --mixup-prob 0.9 --mixup-mode pair --smoothing 0.2'
    run = launch('--mix-mode gmix --mix-literal', DEIT, line).passed()
    expected = 'mode=pair, prob=0.9, label_smoothing=0.2, num_classes=5)'
    assert run.mixing_lines == [f'Mixup(GMix(alpha=1, kernel=reference), correct_lam=False, {expected}']
    gaps = [
        abs(mask_of(before[i], after[i]).mean() - label_weight(targets[i], labels[i], smoothing=0.2))
        for before, labels, after, targets, _ in run.record()['batches']
        for i in ([0, 7], [1, 6], [2, 5], [3, 4])
        if labels[i[0]] != labels[i[1]]
    ]
    assert max(gaps) > 1e-3


def test_mode_none_never_mixes_and_keeps_the_soft_targets(launch):
    """Torch's old launcher may put the rank first."""
    record = launch('--local-rank=1 --mix-mode none', DEIT, OUTPUT).passed().record()
    assert (record['criterion'], record['args']['local_rank']) == ('SoftTargetCrossEntropy', 1)
    for before, labels, after, targets, _ in record['batches']:
        assert torch.equal(after, before)
        expected = torch.full((8, 5), 0.02).scatter(1, labels[:, None], 0.92)
        torch.testing.assert_close(targets, expected)


def test_cutmix_mode_keeps_the_scripts_mixup_and_switching(launch):
    run = launch('--cutmix-mode hmix', DEIT, f'{OUTPUT} --epochs 4').passed()
    line = 'Mixup(Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.75), switch_prob=0.5,'
    assert run.mixing_lines[0].startswith(line)
    boxes = [(abs(mask_of(before, after)) < 1e-5).any() for before, _, after, *_ in run.record()['batches']]
    assert 0 < sum(boxes) < len(boxes)


def test_cutmix_mode_is_refused_where_the_scripts_cutmix_is_off(launch):
    message = launch('--cutmix-mode hmix', DEIT, '--cutmix 0').refused(1)
    assert 'cutmix_alpha' in message and 'hmix' in message


def test_every_mixer_that_a_script_makes_is_said(launch):
    assert launch('--mix-mode hmix', DEIT, '--fine-tune').passed().mixing_lines == [HMIX, HMIX]


def test_a_family_of_ones_own_mixes_in_a_script(launch, tmp_path):
    families = tmp_path / 'my_masks.py'
    families.write_text(
        'import numpy as np\nfrom hmix_timm import DenseMask, register_family\n'
        "@register_family('left', options={'edge': 0.25})\n"
        'def left(size, lam, options, draws):\n'
        '    array = np.full(size, float(lam))\n'
        '    array[:, : int(options.edge * size[1])] = 0.0\n'
        '    return DenseMask(array)\n'
    )
    run = launch(f'--mix-families {families} --mix-mode left --left-edge 0.5', DEIT, OUTPUT).passed()
    for before, _, after, *_ in run.record()['batches']:
        mask = mask_of(before, after)
        assert abs(mask[:, :8]).max() < 1e-5 < mask[:, 8:].min()
    assert 'Left(alpha=1, edge=0.5)' in run.mixing_lines[0]


@pytest.mark.slow
def test_two_processes_mix_and_one_speaks_but_each_says_what_was_seen(tmp_path, processes):
    line = '--nproc_per_node 2 --master_port 0 --rdzv_backend c10d --rdzv_endpoint localhost:0'
    line += f' -m train_patch --mix-check --mix-mode hmix {DEIT} --output {tmp_path}'
    done = processes.module('torch.distributed.run', *line.split()).passed()
    seen = '16 of 16 images HMix, '
    assert f'Mixing: seen: {seen}' in done.stderr and f'Mixing: rank 1 has seen: {seen}' in done.stderr
    assert done.stderr.count('Mixing: ') == 3
    records = [torch.load(tmp_path / f'record{rank}.pt', weights_only=False) for rank in range(2)]
    for record in records:
        check_hmix(record['batches'])
    assert not torch.equal(records[0]['batches'][0][0], records[1]['batches'][0][0])


@pytest.mark.slow
def test_processes_that_a_script_spawns_mix_and_one_speaks(launch):
    run = launch('--mix-mode hmix', SPAWNING, OUTPUT).passed()
    for rank in range(2):
        check_hmix(run.record(rank)['batches'])
    assert len(run.mixing_lines) == 1


@pytest.fixture(scope='module', params=['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def module_run(request, launch):
    """A module whose loader's worker mixes, by timm's class and by a subclass in turns."""
    return launch('--mix-mode hmix', MODULE, f'{OUTPUT} --start-method {request.param}', cwd=SCRIPTS).passed()


def test_a_modules_loader_workers_mix(module_run):
    assert module_run.record()['package'] == 'packaged'
    check_hmix(module_run.record()['batches'], tolerance=0.01)  # uint8


def test_a_scripts_own_subclass_mixes_in_loader_workers(module_run):
    check_hmix(module_run.record()['of_the_subclass'], tolerance=0.01)


# Never silently nothing


def test_a_script_that_does_not_mix_stops_at_its_first_step_and_names_its_options(launch):
    run = launch('--mix-mode hmix', DEIT, f'{OUTPUT} --mixup 0 --cutmix 0')
    message = run.refused(1)
    for part in ('--mix-mode hmix', 'main.py', '--mixup (here 0.0)', '--cutmix (here 0.0)'):
        assert part in message, message
    assert not (run.folder / 'last.pt').exists()


def test_a_configuration_that_does_not_mix_stops_the_script(launch):
    message = launch('--mix-mode hmix', SWIN, '--opts AUG.MIXUP 0 AUG.CUTMIX 0').refused(1)
    assert 'configuration' in message and '--mix-mode hmix' in message


def test_of_the_processes_of_a_script_the_one_that_does_not_mix_stops(launch):
    run = launch('--mix-mode hmix', SPAWNING, f'{OUTPUT} --mixing 1 --start-method fork')
    assert run.status == 1
    assert 'about to train without --mix-mode hmix' in run.log
    assert not (run.folder / 'record1.pt').exists()


def test_a_script_that_never_steps_ends_with_an_error(launch):
    message = launch('--mix-mode hmix', DEIT, '--eval').refused(1)
    assert 'has ended' in message and 'it made Mixup(HMix' in message


def test_where_no_mixing_was_asked_for_a_script_may_do_without(launch):
    run = launch('--mix-mode none', DEIT, '--mixup 0 --cutmix 0').passed()
    assert run.mixing_lines == ['none: main.py has made no mixer']


def test_the_scripts_own_help_is_no_error(launch):
    run = launch('--mix-mode hmix', DEIT, '--help').passed()
    assert '--mixup-prob' in run.log


def test_the_scripts_own_exit_status_is_kept(launch, tmp_path):
    script = tmp_path / 'ends.py'
    script.write_text('import sys\nsys.exit(3)\n')
    run = launch('--mix-mode hmix', script)
    assert (run.status, run.log) == (3, '')


def test_a_scripts_wrong_value_keeps_its_traceback_without_the_launchers_frames(launch):
    run = launch('', DEIT, '--mixup-prob 7')
    assert run.status == 1
    assert 'ValueError: prob must be' in run.log and 'Traceback' in run.log and 'any_script' not in run.log


# Wrong use


def test_wrong_use_is_refused_in_one_line_before_the_script_runs(launch):
    wrong = {
        f'{DEIT} --mix-mode hmix': "--mix-mode stands behind main.py, which is not timm's and would not know it",
        f'--mix-mode hmix {DEIT} --hmix_ratio=0.3': '--hmix_ratio=0.3 stands behind main.py',
        f'{DEIT} --mix-mdoe=hmix': '--mix-mdoe=hmix stands behind main.py',
        f'--mix-mode hmx {DEIT}': '--mix-mode must be one of none, mixup, ',
        f'--mix-literal=3 {DEIT}': 'argument --mix-literal: ignored explicit argument',
        f'--mix-mode puzzlemix {DEIT}': '--mix-mode puzzlemix needs the model that is trained',
        f'--epochs 3 {DEIT}': '--epochs stands before ',
        f'--mixer copied {DEIT}': "argument --mixer: must be a module and a class in it, as 'utils.mixup:Mixup', got",
        f'--mixer :Mixup {DEIT}': 'argument --mixer: must be a module and a class',
    }
    for said, message in zip(launch.refusals(wrong), wrong.values(), strict=True):
        assert said.startswith(message)


def test_a_script_or_module_that_cannot_be_run_is_named(launch, tmp_path):
    (tmp_path / 'broken.py').write_text('def main(:\n')
    names = ['nowhere.py', '-m nowhere', '-m packaged.nowhere', '-m nowhere.train', '-m packaged']
    *said, broken = launch.refusals([f'--mix-mode hmix {name}' for name in [*names, tmp_path / 'broken.py']], SCRIPTS)
    assert [message.partition(': ')[0] for message in said] == names
    assert 'broken.py is not a Python script' in broken


def test_a_script_without_timms_mixup_stops_at_its_first_step(launch, tmp_path):
    script = tmp_path / 'plain.py'
    script.write_text(
        'import torch\nmodel = torch.nn.Linear(2, 2)\nmodel(torch.ones(1, 2)).sum().backward()\n'
        "torch.optim.SGD(model.parameters(), lr=0.1).step()\nprint('trained')\n"
    )
    run = launch('--mix-mode hmix', script)
    assert "if it mixes with timm's Mixup" in run.refused(1)
    assert 'trained' not in run.log


def test_arguments_by_position_are_replaced_and_a_closure_of_the_first_step_is_in_time_to_mix(launch, tmp_path):
    script = tmp_path / 'closure.py'
    script.write_text(
        'import pickle, numpy as np, torch\nfrom timm.data import Mixup\nnp.random.seed(0)\n'
        'Mixup = pickle.loads(pickle.dumps(Mixup))  # the class has an address\n'
        'def closure():\n    Mixup(0.2, 0.0, None, 0.9)(torch.ones(2, 3, 8, 8), torch.arange(2))\n'
        'torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1).step(closure)\n'
    )
    (line,) = launch('--mix-mode hmix', script).passed().mixing_lines
    assert line.startswith('Mixup(HMix(alpha=1, ratio=0.75), mode=batch, prob=0.9')


def test_a_process_that_a_script_forks_and_ends_does_not_end_the_launch(launch, tmp_path):
    script = tmp_path / 'forks.py'
    script.write_text(
        'import os, sys, torch\nfrom timm.data import Mixup\nmixer = Mixup(num_classes=2)\n'
        'if os.fork() == 0:\n    mixer(torch.ones(2, 3, 8, 8), torch.arange(2))\n    sys.exit()\n'
        'os.wait()\nmixer(torch.ones(2, 3, 8, 8), torch.arange(2))\n'
    )
    launch('--mix-mode hmix', script).passed()


@pytest.mark.parametrize(
    'command',
    [
        ['train_patch.__main__', '--mix-mode', 'hmix', '--data-dir', '.'],
        ['train_patch.compare', '--modes', 'hmix', '--output', 'comparison'],
        ['train_patch.preview', '--mix-mode', 'hmix'],
    ],
)
def test_training_through_older_timm_is_refused_in_one_line(processes, tmp_path, command):
    arguments = {'version': '0.9.16', 'module': command[0], 'argv': command[1:]}
    function = 'tests.train_patch.launcher.launching:run_with_timm'
    done = processes.call(function, arguments, cwd=tmp_path).wait()
    assert done.status == 1, done.stderr
    (message,) = done.stderr.strip().splitlines()
    assert 'timm 0.9.16' in message and '1.0.20' in message


def test_timm_that_is_too_old_is_named(launch, tmp_path):
    checkout = tmp_path / 'checkout'
    (checkout / 'timm').mkdir(parents=True)
    (checkout / 'timm' / '__init__.py').write_text("__version__ = '0.3.2'\n")
    (checkout / 'main.py').write_text('')
    # a real start: the server has imported its timm already
    command = [sys.executable, '-m', 'train_patch', '--mix-mode', 'hmix', str(checkout / 'main.py')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[3])
    assert done.returncode == 1
    message = done.stderr.strip()
    assert message.startswith('hmix-train: error: ') and len(message.splitlines()) == 1
    assert 'timm 0.3.2' in message and '0.4.12' in message and str(checkout) in message
