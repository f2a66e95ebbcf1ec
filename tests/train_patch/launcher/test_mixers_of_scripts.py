"""What trains under a log line that says HMix: subclasses, second mixers, copies, switches; in real processes."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from .conftest import SCRIPTS, check_hmix, mask_of

MIXING = SCRIPTS / 'mixing' / 'main.py'
HMIX = '--mix-mode hmix'
CHECKED = f'{HMIX} --mix-check'
FAMILY = """
from hmix_timm import BoxMask, register_family
@register_family('kept')
def kept(size, lam, options, draws):
    return BoxMask(lam)
"""


@pytest.fixture
def train(launch):
    def train(way, after='', before=HMIX):
        return launch(before, MIXING, f'--output {{folder}} --way {way} {after}')

    return train


def trained(run):
    """Whether a run has come to its end."""
    return (run.folder / 'record0.pt').exists()


def pairs(batches):
    """Each pair of images of a batch, where the labels tell them apart."""
    for *parts, loss in batches:
        for i in range(4):
            own, labels, mixed, targets = (part[[i, 7 - i]] for part in parts)
            if labels[0] != labels[1]:
                yield own, labels, mixed, targets, loss


# Right, and trains


@pytest.mark.parametrize('way', ['calls_super', 'super_in_helper', 'own_call', 'keeps_labels', 'direct'])
def test_a_script_may_reach_our_methods_in_its_own_way(train, way):
    run = train(way, before=CHECKED).passed()
    assert len(run.record()['batches']) == 8
    check_hmix(run.record()['batches'])
    made, seen = run.mixing_lines
    assert 'HMix(alpha=1, ratio=0.75)' in made
    assert re.fullmatch(r'seen: 64 of 64 images HMix, label = mean of the mask to \de-0[89], reached the model', seen)


def test_a_scripts_own_call_may_mix_in_pairs(train):
    run = train('own_call', '--mode pair --epochs 1', before=CHECKED).passed()
    check_hmix([*pairs(run.record()['batches'])])
    assert 'seen: 32 of 32 images HMix' in run.mixing_lines[-1]  # fewer than it looks at, said at the end


@pytest.mark.parametrize(
    ('way', 'method'),
    [('timms', 'fork'), ('own_call', 'fork'), pytest.param('own_call', 'spawn', marks=pytest.mark.slow)],
)
def test_loader_workers_may_reach_our_methods_in_their_own_way(train, way, method):
    run = train(way, f'--start-method {method} --epochs 1', before=CHECKED).passed()
    check_hmix(run.record()['batches'], tolerance=0.01)
    assert re.search(r'seen: 32 of 32 images HMix, .* to \de-0[34] \(rounded uint8\), reached', run.mixing_lines[-1])


def test_without_an_option_of_ours_a_scripts_own_call_is_not_said_not_to_mix(train):
    (line,) = train('own_call', before='').passed().mixing_lines
    assert 'OwnCall(Mixup(alpha=0.8) | CutMix' in line


def test_mixing_may_begin_later_and_the_log_counts_the_steps(train):
    run = train('late', '--epochs 5').passed()
    check_hmix(run.record()['batches'])
    assert [line.partition(':')[2] for line in run.mixing_lines[1:]] == [
        ' step 1 comes, and no mask was applied so far',
        ' step 10 comes, and no mask was applied so far',
    ]


def test_mixing_may_hang_on_a_coin(train):
    run = train('coin', '--epochs 8').passed()
    mixed = [batch for batch in run.record()['batches'] if not torch.equal(batch[0], batch[2])]
    assert 0 < len(mixed) < run.record()['steps'] == 32
    check_hmix(mixed)


def test_boxes_that_a_script_puts_in_the_place_of_timms_are_drawn(train):
    batches = train('own_boxes').passed().record()['batches']
    check_hmix(batches)
    for before, _, after, *_ in batches:
        inside = abs(mask_of(before, after)) < 1e-5
        assert inside[4:12, 4:12].all() and inside.sum() == 64


@pytest.mark.parametrize(
    ('way', 'before', 'named', 'values'),
    [
        ('torchvisions', HMIX, 'CutMix(alpha=1.0, num_classes=5, hmix_ratio=0.75, mix_mode=hmix, mode=batch, p=1', 2),
        (
            'torchvisions_choice',
            '--mix-mode mixup',
            'MixUp(alpha=0.8, num_classes=5, mix_mode=mixup, mode=batch, p=1.0)',
            1,
        ),
        ('torchvisions', '--cutmix-mode gmix', 'CutMix(alpha=1.0, num_classes=5, gmix_kernel=reference', 99),
        (
            'torchvisions_choice',
            '--mix-mode none',
            'MixUp(alpha=1.0, num_classes=5, mix_mode=mixup, mode=batch, p=0.0)',
            0,
        ),
        ('random_mixup', f'{HMIX} --mixer copied:RandomMixUp', 'RandomMixUp(alpha=1.0, num_classes=5, hmix_ratio', 2),
    ],
)
def test_torchvisions_mixers_are_replaced_too(train, way, before, named, values):
    """The partner is torchvision's, the image before; the mask is found by least squares, and its mean is the label."""
    run = train(way, before=before).passed()
    assert run.mixing_lines[0].startswith(named) and len(run.mixing_lines) == 1 + way.endswith('choice')
    batches = run.record()['batches']
    assert len(batches) == 8
    for own, labels, mixed, targets, _ in batches:
        partner, hot = own.roll(1, 0), torch.nn.functional.one_hot(labels, 5)
        mask = ((own - partner) * (mixed - partner)).sum((0, 1)) / ((own - partner) ** 2).sum((0, 1))
        torch.testing.assert_close(mixed, mask * own + (1 - mask) * partner, rtol=0, atol=1e-5)
        torch.testing.assert_close(targets, mask.mean() * hot + (1 - mask.mean()) * hot.roll(1, 0), rtol=0, atol=1e-5)
        assert len(mask.mul(1e4).round().unique()) <= max(values, 1)
    assert (mask == 1).all() == (values == 0)


def test_torchvisions_mixup_alone_is_not_mixed_by_a_mask_in_cutmixs_place(train):
    message = train('torchvisions_mixup', before='--cutmix-mode gmix').refused(1)
    assert 'torchvision.transforms.v2._augment: class MixUp, which is not timm' in message
    assert '; --mix-mode puts ours in its place' in message


def test_a_check_of_torchvisions_mixers_is_refused(train):
    message = train('torchvisions', before=CHECKED).refused(1)
    assert '--mix-check cannot look at torchvision.transforms.v2._augment.CutMix' in message


# Not ours, and refused


@pytest.mark.parametrize('mode', ['batch', 'elem'])
def test_a_method_that_cannot_reach_ours_is_refused_when_its_mixer_is_made(train, mode):
    run = train('own_hook', f'--epochs 0 --mode {mode}')
    assert f'does not mix by --mix-mode hmix alone: ways.OwnHook._mix_{mode} mixes by itself' in run.refused(1)
    assert not run.mixing_lines and not trained(run)


@pytest.mark.parametrize(
    ('way', 'named'),
    [
        ('sometimes_super', 'ways.SometimesSuper._mix_batch mixes by itself'),
        ('sometimes_super --mode elem', 'ways.SometimesSuper._mix_elem mixes by itself'),
        ('own_box', 'ways.OwnBox.__call__ mixes by itself'),
        ('draws_alone', 'Mixup._params_per_batch mixes by itself: no mask of hmix-timm is applied there'),
        ('set_later', 'Mixup was set to mixup_alpha=0.8, cutmix_alpha=0.0 after it was made'),
        ('own_slot', 'ways.OwnSlot mixes by the slot that mixup_alpha=0 turns off'),
        ('own_transform', 'ways.OwnTransform.transform mixes by itself: no mask of hmix-timm is applied there'),
        ('no_constructor', 'ways.NoConstructor mixes as its own attributes say: its __init__ does not call super'),
    ],
)
def test_what_mixes_without_our_masks_stops_before_the_next_step(train, way, named):
    run = train(way)
    assert named in run.refused(1)
    assert not trained(run)


def test_a_second_mixer_is_named_with_file_and_line(train):
    source = (MIXING.parent / 'ways.py').read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if '= cutmix_bbox_and_lam(' in text)
    run = train('two')
    boxes = f"a second mixer cuts boxes by timm's cutmix_bbox_and_lam ({MIXING.parent}/ways.py, line {line})"
    assert boxes in run.refused(1) and not trained(run)


@pytest.mark.parametrize(
    ('way', 'named', 'method'),
    [
        ('own_hook', 'ways.CollateOwnHook._mix_batch_collate mixes by itself', 'fork'),
        ('own_box', 'ways.CollateOwnBox.__call__ mixes by itself', 'fork'),
        ('two', 'a second mixer', 'fork'),
        pytest.param('own_box', 'ways.CollateOwnBox.__call__ mixes by itself', 'spawn', marks=pytest.mark.slow),
    ],
)
def test_loader_workers_that_mix_without_our_masks_stop_the_run(train, way, named, method):
    run = train(way, f'--start-method {method}')
    assert named in run.refused(1)
    assert not trained(run)


def test_other_mixers_that_are_meant_are_said_and_left_alone(train):
    run = train('two', before=f'{HMIX} --mix-others keep').passed()
    check_hmix(run.record()['batches'])
    (line,) = (line for line in run.mixing_lines if 'left alone' in line)
    assert 'a second mixer' in line and 'ways.py, line ' in line


def test_with_others_left_alone_ours_must_still_mix(train):
    run = train('own_hook', before=f'{HMIX} --mix-others keep')
    assert 'had no effect' in run.refused(1)


def test_without_an_option_of_ours_the_log_says_who_mixes_by_himself(train):
    run = train('own_hook', before='').passed()
    (line,) = run.mixing_lines
    assert 'ways.OwnHook._mix_batch mixes by itself' in line


def test_a_script_that_turns_on_what_was_turned_off_is_told(train):
    line = train('set_later', before='--mix-mode none').passed().mixing_lines[1]
    assert line == 'left alone: Mixup was set to mixup_alpha=0.8, mix_prob=1.0 after it was made'


def test_a_mixer_that_is_always_switched_off_is_no_success(train):
    message = train('off').refused(1)
    assert 'had no effect' in message and 'switched off' in message


# True reasons


@pytest.mark.parametrize(
    ('way', 'reason'),
    [
        ('copy', "copied.py: class Mixup, which is not timm's; --mixer copied:Mixup puts ours in its place"),
        ('random_mixup', "copied.py: class RandomMixUp, which is not timm's; --mixer copied:RandomMixUp puts ours"),
        ('ours', "hmix_timm.mixup: class Mixup, which is not timm's; import Mixup from timm.data in its place"),
        ('torchvisions --epochs 0', 'mix_mode=hmix, mode=batch, p=1.0), and did not use it'),
        ('nothing --mixup 0', 'it mixes only where its own --mixup (here 0.0) says so; turn that on'),
    ],
)
def test_where_no_mixer_of_timms_is_made_the_reason_is_the_true_one(train, way, reason):
    message = train(way).refused(1)
    assert reason in message
    assert ('turn that on' in message) == way.endswith('--mixup 0')


def test_a_mixer_that_cannot_be_named_is_said_to_be_none_of_timms(launch, tmp_path):
    script = tmp_path / 'main.py'
    script.write_text(
        "import argparse, torch\nparser = argparse.ArgumentParser()\nparser.add_argument('--mixup', default=0.8)\n"
        'parser.parse_args()\noptimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)\n'
        "optimizer.step()\nprint('trained')\n"
    )
    run = launch(HMIX, script)
    assert "although --mixup (here 0.8) is on: it mixes by something else than timm's Mixup" in run.refused(1)
    assert 'trained' not in run.log


def test_a_copy_of_timms_mixer_can_be_replaced(train):
    run = train('copy', before=f'{HMIX} --mixer copied:Mixup').passed()
    check_hmix(run.record()['batches'])
    assert 'Mixup(HMix' in run.mixing_lines[0]


@pytest.mark.parametrize(
    ('mixer', 'message'),
    [
        ('copied:Recording', 'its __call__ takes x, target, seeds, and not x, target'),
        ('copied:Simple', 'its __init__ takes mixup_alpha, and not mixup_alpha, cutmix_alpha, cutmix_minmax'),
        ('copied:Mix', 'has no class Mix'),
        ('ways:soft', 'has no class soft'),
        ('ways:Pseudo', 'its __init__ takes '),
        ('nowhere:Mixup', 'it has not imported nowhere (--mixer nowhere:Mixup)'),
    ],
)
def test_a_class_that_is_no_copy_is_not_replaced(train, mixer, message):
    assert message in train('copy', before=f'{HMIX} --mixer {mixer}').refused(1)


def test_a_parsers_exit_that_a_script_survives_is_no_end(launch, tmp_path):
    script = tmp_path / 'survives.py'
    script.write_text(
        'import argparse\nparser = argparse.ArgumentParser()\n'
        "try:\n    parser.parse_args(['--help'])\nexcept SystemExit:\n    print('trained')\n"
    )
    run = launch(HMIX, script)
    assert 'has ended' in run.refused(1) and 'trained' in run.log


@pytest.mark.parametrize(('parser', 'before'), [('', ''), ('config_parser = ', ' --mix-others keep')])
def test_a_script_of_timms_shape_may_run_as_any_other(launch, tmp_path, parser, before):
    script = tmp_path / 'train.py'
    script.write_text(
        'import argparse, torch\nfrom timm.data import FastCollateMixup, Mixup, create_loader\n'
        f'parser = {parser}argparse.ArgumentParser()\ntrain_one_epoch = None\n'
        'def _parse_args():\n    return parser.parse_args()\n'
        'def main():\n    _parse_args()\n    Mixup(num_classes=2)(torch.ones(2, 3, 8, 8), torch.arange(2))\n'
        "if __name__ == '__main__':\n    main()\n"
    )
    assert 'HMix' in launch(HMIX + before, script).passed().mixing_lines[0]


# As python would


def test_a_script_may_be_a_link_train_in_a_thread_and_have_an_option_like_ours(launch, tmp_path):
    (tmp_path / 'script').write_text(
        'import threading, time, torch\nfrom timm.data import Mixup\nprint(__file__)\n'
        'def main():\n    time.sleep(0.1)\n    Mixup(num_classes=2)(torch.ones(2, 3, 8, 8), torch.arange(2))\n'
        'threading.Thread(target=main).start()\n'
    )
    (tmp_path / 'link.py').symlink_to('script')
    run = launch(HMIX, tmp_path / 'link.py', '--mix-precision bf16').passed()
    assert run.mixing_lines[0].startswith('Mixup(HMix') and f'{tmp_path}/link.py' in run.log


def test_a_file_of_families_brings_no_other_timm_than_the_scripts(launch, tmp_path):
    (tmp_path / 'timm').mkdir()
    (tmp_path / 'timm' / '__init__.py').touch()
    (tmp_path / 'main.py').touch()
    (families := tmp_path / 'mine.py').write_text('import timm.layers\n' + FAMILY)
    run = launch(f'--mix-families {families} --mix-mode kept', tmp_path / 'main.py')
    assert re.search(f'before the script, which has its own at {tmp_path}/timm/__init__.py', run.refused())


@pytest.mark.parametrize('before', ['', 'import sys\n'])
def test_a_scripts_traceback_is_the_one_of_python(launch, tmp_path, before):
    script = tmp_path / 'fails.py'
    script.write_text(f"{before}def fail():\n    raise ValueError('no data')\nfail()\n")
    ours = launch(HMIX, script)
    pythons = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (ours.status, ours.log) == (pythons.returncode, pythons.stderr)


def test_a_folder_runs_by_its_main_module(launch, tmp_path):
    (tmp_path / 'beside.py').write_text('number = 3\n')
    (tmp_path / '__main__.py').write_text(
        'import sys, torch\nfrom timm.data import Mixup\nfrom beside import number\n'
        'Mixup(num_classes=2)(torch.ones(2, 3, 8, 8), torch.arange(2))\nprint(sys.argv[1:], number)\n'
    )
    assert "['--lr', '1'] 3" in launch(HMIX, tmp_path, '--lr 1').passed().log


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_launch_that_is_ended_leaves_no_folder(processes, tmp_path, number):
    script = tmp_path / 'waits.py'
    script.write_text('import time\nprint("waits", flush=True)\ntime.sleep(100)\n')
    arguments = {'argv': ['--mix-mode', 'hmix', str(script)], 'start_method': None}
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    function = 'tests.train_patch.launcher.launching:launch'
    process = processes.call(function, arguments, cwd=tmp_path, TMPDIR=str(temporary))
    process.wait_until(lambda: 'waits' in process.stdout)
    assert list(temporary.glob('hmix-train-*'))
    os.killpg(process.pid, number)  # as `timeout` does
    assert process.wait().status == -number
    while list(temporary.glob('hmix-train-*')):
        time.sleep(0.01)
