"""The project's own script as a whole: timm's command lines, the files and ends of a run, and code it never runs."""

import argparse
import math
import os
import pickle
import re
import shlex
import signal
import time
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image, ImageOps
from timm import utils
from timm.scheduler import create_scheduler_v2

from train_patch import __main__
from train_patch.common.errors import WrongArguments
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.output import read_table
from train_patch.trainer.setup import check_arguments

SCRIPT = os.environ.get('TIMM_TRAIN_SCRIPT')
needs_script = pytest.mark.skipif(not SCRIPT, reason='TIMM_TRAIN_SCRIPT names no timm train.py to compare with')


class Hostile:
    """Unpickling it runs a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.mark.parametrize(
    ('option', 'status'), [('--resume', 1), ('--initial-checkpoint', 2), ('--pretrained --pretrained-path', 2)]
)
def test_a_hostile_checkpoint_runs_nothing(lean, tmp_path, option, status):
    path, marker = tmp_path / 'stranger.pth.tar', tmp_path / 'ran'
    weights = timm.create_model('test_resnet', num_classes=4).state_dict()
    torch.save({'epoch': 0, 'version': 2, 'state_dict': weights, 'optimizer': {}, 'gift': Hostile(marker)}, path)
    run = lean(tmp_path / 'run', f'{option} {path} --epochs 1 -j 0', status=status)
    assert not marker.exists()
    assert str(path) in run.last_line, run.last_line
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists()  # without care


def test_what_a_loader_worker_drew_that_is_no_mask_is_named_in_one_line(lean, tmp_path):
    (tmp_path / 'masks.py').write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "register_family('own')(lambda size, lam, options, draws: BoxMask(1.5))\n"
    )
    line = f'--mix-families {tmp_path / "masks.py"} --mix-mode own --epochs 1 -j 1'
    run = lean(tmp_path / 'run', line, status=1)
    assert run.last_line.startswith("hmix-train: error: family 'own' drew no mask for λ = ")
    assert run.last_line.endswith('outside [0, 1]')


# timm's documented ImageNet command lines (its training_script page), whole, but for the one with --jsd-loss; the tests
# cut down data, epochs, model size, batch and workers.
DOCUMENTED = {
    'seresnet34': '--sched cosine --epochs 150 --warmup-epochs 5 --lr 0.4 --reprob 0.5 --remode pixel '
    '--batch-size 256 --amp -j 4',
    'efficientnet_b2': '-b 128 --sched step --epochs 450 --decay-epochs 2.4 --decay-rate .97 --opt rmsproptf '
    '--opt-eps .001 -j 8 --warmup-lr 1e-6 --weight-decay 1e-5 --drop 0.3 --drop-path 0.2 '
    '--model-ema --model-ema-decay 0.9999 --aa rand-m9-mstd0.5 --remode pixel --reprob 0.2 '
    '--amp --lr .016',
    'mixnet_xl': '-b 128 --sched step --epochs 450 --decay-epochs 2.4 --decay-rate .969 --opt rmsproptf '
    '--opt-eps .001 -j 8 --warmup-lr 1e-6 --weight-decay 1e-5 --drop 0.3 --drop-path 0.2 '
    '--model-ema --model-ema-decay 0.9999 --aa rand-m9-mstd0.5 --remode pixel --reprob 0.3 '
    '--amp --lr .016 --dist-bn reduce',
    'seresnext26t_32x4d': '--lr 0.1 --warmup-epochs 5 --epochs 160 --weight-decay 1e-4 --sched cosine --reprob 0.4 '
    '--remode pixel -b 112',
    'efficientnet_b0': '-b 384 --sched step --epochs 450 --decay-epochs 2.4 --decay-rate .97 --opt rmsproptf '
    '--opt-eps .001 -j 8 --warmup-lr 1e-6 --weight-decay 1e-5 --drop 0.2 --drop-path 0.2 '
    '--model-ema --model-ema-decay 0.9999 --aa rand-m9-mstd0.5 --remode pixel --reprob 0.2 '
    '--amp --lr .048',
    'efficientnet_es': '-b 128 --sched step --epochs 450 --decay-epochs 2.4 --decay-rate .97 --opt rmsproptf '
    '--opt-eps .001 -j 8 --warmup-lr 1e-6 --weight-decay 1e-5 --drop 0.2 --drop-path 0.2 --aa '
    'rand-m9-mstd0.5 --remode pixel --reprob 0.2 --amp --lr .064',
    'mobilenetv3_large_100': '-b 512 --sched step --epochs 600 --decay-epochs 2.4 --decay-rate .973 --opt rmsproptf '
    '--opt-eps .001 -j 7 --warmup-lr 1e-6 --weight-decay 1e-5 --drop 0.2 --drop-path 0.2 '
    '--model-ema --model-ema-decay 0.9999 --aa rand-m9-mstd0.5 --remode pixel --reprob 0.2 '
    '--amp --lr .064 --lr-noise 0.42 0.9',
    'resnext50_32x4d': '--lr 0.6 --warmup-epochs 5 --epochs 240 --weight-decay 1e-4 --sched cosine --reprob 0.4 '
    '--recount 3 --remode pixel --aa rand-m7-mstd0.5-inc1 -b 192 -j 6 --amp --dist-bn reduce',
}


def posterizes_to_no_bits():
    """Pillow 13 no longer does, and the policies that need it are refused."""
    try:
        ImageOps.posterize(Image.new('RGB', (2, 2)), 0)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize('name', DOCUMENTED)
def test_documented_command_line_is_taken(name):
    args, _ = parse_arguments(shlex.split(f'--model {name} {DOCUMENTED[name]}'))
    if '-inc1' in DOCUMENTED[name] and not posterizes_to_no_bits():
        with pytest.raises(WrongArguments, match="pip install 'pillow<13'"):
            check_arguments(args)
    else:
        check_arguments(args)


# Together they have every option that the eight have.
@pytest.mark.parametrize('name', ['mixnet_xl', 'mobilenetv3_large_100', 'resnext50_32x4d'])
def test_documented_command_line_trains(lean, image_folder, tmp_path, name):
    documented = DOCUMENTED[name] if posterizes_to_no_bits() else DOCUMENTED[name].replace('-inc1', '')
    model = 'test_resnet' if 'res' in name else 'test_efficientnet'
    cut = f'--model {model} --num-classes 4 --img-size 32 --epochs 1 -b 16 -j 1 --device cpu'
    line = f'--data-dir {image_folder} --model {name} {documented} {cut}'
    run = lean(tmp_path / 'run', line, small=False)
    (row,) = run.rows
    assert list(row) == ['epoch', 'train_loss', 'eval_loss', 'eval_top1', 'eval_top5', 'lr']
    assert 0 < float(row['train_loss']) < 10 and 0 <= float(row['eval_top1']) <= float(row['eval_top5']) <= 100
    names = set(os.listdir(run.folder))
    assert {'args.yaml', 'last.pth.tar', 'model_best.pth.tar', 'checkpoint-0.pth.tar', 'times.csv'} <= names
    assert 'Mixing: none' in run.log
    assert ('(EMA)' in run.log) == ('--model-ema' in line)


# The options that no documented line has; each with a line that the log must have.
MORE = {
    'bfloat16': (
        '--model test_vit --model-kwargs patch_size=8 --amp --amp-dtype bfloat16 --opt adamw --clip-grad 1 '
        '--grad-accum-steps 3 -b 4 --sched-on-updates --channels-last --mixup .2 --cutmix 1 '
        '--bce-loss --bce-target-thresh 0.2 --log-interval 1',
        r'AdamW \(adamw\), lr 0.05, bfloat16 autocast[\s\S]*Train: 0 \[   2/3 \(100%\)\]',
    ),
    'compiled': (
        '--torchcompile eager --clip-grad 0.01 --clip-mode agc --opt lookahead_sgd --model-ema --model-ema-warmup '
        '--no-prefetcher --mix-mode hmix --mixup-mode elem --mixup 0.3',
        r'replaced by --mix-mode hmix: --mixup 0.3\nMixing: Mixup\(HMix\(alpha=1, ratio=0.75\), mode=elem',
    ),
    'plateau': (
        '--sched plateau --patience-epochs 0 --eval-metric loss --clip-grad 0.1 --clip-mode value --opt lamb '
        '--lr-base 0.1 --lr 0 --model-ema --model-ema-force-cpu --bce-loss --smoothing 0',
        r'Lamb \(lamb\), lr 0.025, float32',
    ),
    'poly': (
        '--model test_vit --model-kwargs patch_size=8 --amp --no-aug --val-interval 2 '
        '--sched poly --lr-noise 0.1 0.9 --warmup-prefix --warmup-epochs 1 --cooldown-epochs 1',
        r'float16 autocast, 3 epoch\(s\)\.',  # 1 of warm-up, 1, 1 of cooling down
    ),
    'no validation': ('--val-split "" --smoothing 0 --sched none', r'Best metric: [\d.]+ \(epoch 0\)'),
    'one channel': (
        '--in-chans 1 --mean .5 --std .2 --input-size 1 32 40 --crop-pct .9 --interpolation bicubic --hflip 0 '
        '--vflip .5 --train-interpolation bilinear --color-jitter 0 --scale .5 1 --ratio 1 1 --sched tanh',
        r'input_size: \(1, 32, 40\)',
    ),
}


@pytest.mark.parametrize('name', MORE)
def test_options_that_no_documented_line_has_train(lean, tmp_path, name):
    line, expected = MORE[name]
    if name == 'plateau':
        try:
            create_scheduler_v2(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1), sched='plateau')
        except TypeError as error:
            pytest.skip(f"timm {timm.__version__}'s plateau does not work with torch {torch.__version__}: {error}")
    run = lean(tmp_path / 'run', f'--epochs 1 -j 1 {line}')
    assert re.search(expected, run.log), run.log
    assert 'Best metric' in run.log and len(run.rows) >= 1


def test_mixing_ends_with_its_off_epoch_in_running_loader_workers(lean, tmp_path):
    """Weights that stand still and images that are not augmented: unmixed epochs alone have equal losses."""
    line = '--model test_vit --model-kwargs patch_size=8 --epochs 4 -j 1 --no-aug --lr 1e-30 --sched none'
    run = lean(tmp_path / 'run', f'{line} --mix-mode cutmix --mixup-off-epoch 2')
    first, second, third, fourth = (float(row['train_loss']) for row in run.rows)
    assert third == pytest.approx(fourth, rel=1e-6)
    for one, other in ((first, second), (first, third), (second, third)):
        assert abs(one / other - 1) > 1e-4


def test_weights_and_biases_get_the_run_of_the_first_process(lean, tmp_path):
    (tmp_path / 'wandb.py').write_text(
        'init = lambda **given: print("started", given["name"])\nlog = lambda row: print("logged", sorted(row))\n'
    )
    run = lean.wait(lean.start(tmp_path / 'run', '--epochs 1 -j 0 --log-wandb', environment={'cwd': str(tmp_path)}))
    assert re.findall('^(?:started|logged) .*', run.log, re.M) == [
        'started run',
        "logged ['epoch', 'eval_loss', 'eval_top1', 'eval_top5', 'lr', 'train_loss']",
    ]


@pytest.fixture(scope='module')
def first(lean, tmp_path_factory):
    """A run whose recipe is tried again."""
    folder = tmp_path_factory.mktemp('first') / 'run'
    return lean(folder, '--epochs 2 -j 2 --mix-mode gmix --drop 0.1 --reprob 0.3')


def test_recipe_written_by_a_run_repeats_it(lean, first, tmp_path):
    again = lean(tmp_path / 'again', f'-c {first.folder}/args.yaml', small=False)
    assert again.text('summary.csv') == first.text('summary.csv')
    lean(again.folder, f'-c {first.folder}/args.yaml --resume auto', small=False)
    once_more = lean(tmp_path / 'once more', f'-c {again.folder}/args.yaml', small=False)  # and of one that was resumed
    assert once_more.text('summary.csv') == first.text('summary.csv')


def test_another_seed_gives_another_run(lean, first, tmp_path):
    other = lean(tmp_path / 'other', f'-c {first.folder}/args.yaml --seed 43', small=False)
    columns = ('train_loss', 'eval_loss')
    assert all(ours[c] != theirs[c] for ours, theirs in zip(other.rows, first.rows, strict=True) for c in columns)


def test_recipe_written_by_a_run_holds_what_was_resolved(first):
    arguments = yaml.safe_load(first.text('args.yaml'))
    assert (arguments['mix_mode'], arguments['cutmix'], arguments['seed']) == ('gmix', 1.0, 42)
    assert 'rank' not in arguments and 'world_size' not in arguments


def test_tables_have_a_row_for_each_validation(lean, tmp_path):
    """Every second epoch, and the last one."""
    run = lean(tmp_path / 'run', '--epochs 5 --val-interval 2 -j 0')
    assert [row['epoch'] for row in run.rows] == ['1', '3', '4']
    assert list(read_table(run.folder / 'times.csv')) == [1, 3, 4]
    assert sorted(path.name for path in run.folder.glob('checkpoint-*')) == [
        f'checkpoint-{epoch}.pth.tar' for epoch in (1, 3, 4)
    ]


def test_divergence_ends_the_run_and_keeps_what_was_finished(lean, tmp_path):
    run = lean(tmp_path / 'run', '--epochs 9 -j 0 --lr 1e30 --opt sgd', status=1)
    where = '(in epoch 0, batch 1|in the validation after epoch 0)'
    diverged = rf'the loss is (nan|inf) {where}, at learning rate 1e\+30: training has diverged; .*--lr.*'
    assert re.fullmatch(f'hmix-train: error: {diverged}', run.last_line)
    assert not (run.folder / 'summary.csv').exists() and 'Traceback' not in run.log


def test_divergence_after_some_epochs_leaves_their_rows_and_checkpoint(lean, tmp_path):
    """The warm-up is harmless; the epochs after it are not."""
    run = lean(tmp_path / 'run', '--epochs 9 -j 0 --lr 1e30 --warmup-epochs 2 --warmup-lr 1e-30 --sched step', status=1)
    assert 'training has diverged' in run.last_line
    done = len(run.rows)
    assert done >= 1 and all(math.isfinite(float(row['eval_loss'])) for row in run.rows)
    assert torch.load(run.folder / 'last.pth.tar')['epoch'] == done - 1


@pytest.mark.parametrize(
    ('number', 'status', 'line', 'workers'),
    [(signal.SIGINT, 130, 'Interrupted.', 2), (signal.SIGTERM, 143, 'Terminated.', 0)],
)
def test_a_signal_ends_the_run_with_its_own_status(lean, tmp_path, number, status, line, workers):
    run = lean.start(tmp_path / 'run', f'--epochs 500 -j {workers} --log-interval 1')
    while 'Train: 1' not in run.log:
        time.sleep(0.01)
    os.kill(run.pid, number)
    lean.wait(run)
    assert (run.status, run.last_line) == (status, line)
    assert 'Traceback' not in run.log and '*** Best metric' in run.log
    assert len(run.rows) >= 1


def test_a_signal_to_the_whole_group_ends_the_run_as_one_to_itself(lean, tmp_path):
    """As `timeout` and schedulers of clusters send it: the loader workers end at the same moment."""
    run = lean.start(tmp_path / 'run', '--epochs 500 -j 2 --log-interval 1')
    while 'Train: 1' not in run.log:
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGTERM)
    lean.wait(run)
    assert (run.status, run.last_line) == (143, 'Terminated.'), run.log[-3000:]
    assert 'Traceback' not in run.log, run.log[-3000:]


def test_a_worker_that_is_killed_ends_the_run_with_one_line(lean, tmp_path):
    run = lean.start(tmp_path / 'run', '--epochs 500 -j 2 --log-interval 1')
    while 'Train: 1' not in run.log:
        time.sleep(0.01)
    children = Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    lean.wait(run)
    assert run.status == 1
    assert re.fullmatch(
        r'hmix-train: error: epoch \d+: DataLoader worker .* --workers 2\? .*--resume auto.*', run.last_line
    )
    assert 'Traceback' not in run.log


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--model test_vit --img-size 40', r'--model test_vit: cannot take images of 3×40×40: '),
        ('--model-kwargs global_pool=', r'--model test_resnet: '),
        ('--model-kwargs no_such=1', r"--model test_resnet: cannot be built with these arguments: .*'no_such'"),
        ('--torchcompile no-such', '--torchcompile no-such: '),
        ('--dataset torch/cifar10', '--dataset torch/cifar10: .*--dataset-download'),
    ],
)
def test_arguments_that_only_the_model_or_the_data_refuse_end_with_one_line_too(lean, tmp_path, line, expected):
    run = lean(tmp_path / 'run', f'--epochs 1 -j 0 {line}', status=2)
    assert re.search(f'error: (argument )?{expected}', run.last_line), run.log
    assert 'Traceback' not in run.log and not (tmp_path / 'run').exists()


@pytest.fixture
def timms_checkpoint(tmp_path):
    """A checkpoint of timm's own saver, its Namespace of arguments included, and the model."""
    model = timm.create_model('test_resnet', num_classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    args = argparse.Namespace(model='test_resnet', lr=0.1, device='cpu')
    saver = utils.CheckpointSaver(model, optimizer, args=args, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(3, metric=1.0)
    return tmp_path / 'last.pth.tar', model


def test_timms_checkpoint_is_an_initial_checkpoint(lean, timms_checkpoint, tmp_path):
    path, model = timms_checkpoint
    run = lean(tmp_path / 'initial', f'--initial-checkpoint {path} --lr 1e-30 --epochs 1 -j 0')
    saved = torch.load(run.folder / 'last.pth.tar')['state_dict']
    for name, value in model.named_parameters():
        torch.testing.assert_close(saved[name], value.detach(), rtol=0, atol=1e-20)


def test_timms_checkpoint_is_resumed(lean, timms_checkpoint, tmp_path):
    run = lean(tmp_path / 'resumed', f'--resume {timms_checkpoint[0]} --no-resume-opt --epochs 6 -j 0')
    assert [row['epoch'] for row in run.rows] == ['4', '5']


def test_the_command_trains_on_whatever_device_there_is(image_folder, processes, tmp_path):
    line = f'--data-dir {image_folder} --model test_resnet --num-classes 4 --img-size 32 -b 16 -j 1 --epochs 1'
    done = processes.module('train_patch', *line.split(), '--output', tmp_path).passed()
    assert re.search(r'Process 0 of 1 on \w+ \(no --device given\)', done.stderr)
    (folder,) = tmp_path.iterdir()
    assert re.fullmatch(r'20\d{6}-\d{6}-test_resnet-32', folder.name)  # without --experiment
    assert len(read_table(folder / 'summary.csv')) == 1


def test_too_old_a_timm_is_named(monkeypatch, capsys):
    monkeypatch.setattr('timm.__version__', '1.0.19')
    with pytest.raises(SystemExit):
        __main__.main(['--data-dir', 'x'])
    assert re.search(r'^hmix-train: error: timm 1.0.19 at .* is too old', capsys.readouterr().err)


def test_the_module_ends_with_status_1_and_one_line(image_folder, processes, tmp_path):
    """As torchrun starts it."""
    line = f'--data-dir {image_folder} --model test_resnet --num-classes 4 --img-size 32 -b 16 -j 1 --epochs 1'
    line += f' --output {tmp_path} --experiment a --resume {tmp_path}/nothing.pth.tar'
    done = processes.module('train_patch.train', *line.split()).wait()
    assert done.status == 1
    assert done.stderr.strip().splitlines()[-1] == f'hmix-train: error: no checkpoint at {tmp_path}/nothing.pth.tar'


@needs_script
@pytest.mark.parametrize(
    'line',
    [
        '--aa rand-m9-mstd0.5 --reprob .5 --model-ema --drop .1 --grad-accum-steps 2 -b 8 '
        '--mixup .2 --cutmix 1 --mixup-mode pair --bce-loss --opt adamw',
        '--no-prefetcher --clip-grad .1 --reprob .5',
    ],
)
def test_first_epoch_is_that_of_timms_script(lean, image_folder, processes, tmp_path, line):
    line += ' --epochs 1 -j 2'
    run = lean(tmp_path / 'ours', line)
    small = '--model test_resnet --num-classes 4 --img-size 32 -b 16 --lr 0.05 --warmup-epochs 0 --device cpu'
    argv = [SCRIPT, *shlex.split(small), *shlex.split(line), '--data-dir', str(image_folder)]
    argv += ['--output', str(tmp_path), '--experiment', 'timm']
    processes.call('process_server:run_script', {'argv': argv}).passed()
    timms = dict(zip(*(row.split(',') for row in (tmp_path / 'timm/summary.csv').read_text().split()), strict=True))
    for column, value in run.rows[0].items():
        assert float(value) == pytest.approx(float(timms[column]), rel=1e-5), column
