"""The project's own script from its first line to its last, up to the training: what is built, and how it ends."""

import gc
import json
import logging
import os
import shlex
import signal
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import yaml
from timm import utils
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from hmix_timm import FastCollateMixup, Mixup
from train_patch import train
from train_patch.common.errors import RunError
from train_patch.common.processes import Terminated, raise_on_sigterm
from train_patch.trainer import data, loaders, loop, setup
from train_patch.trainer import distributed as processes
from train_patch.trainer.arguments import WrongArguments, parse_arguments
from train_patch.trainer.data import UnreadableImage

SMALL = '--model test_resnet --num-classes 4 --img-size 32 -b 12 -j 0 --lr .05 --device cpu'


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """What a run changes of its process is put back."""
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'SLURM_NTASKS', 'TORCHELASTIC_RUN_ID'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '0')
    monkeypatch.setattr(utils, 'setup_default_logging', lambda: logging.getLogger('train').setLevel(logging.INFO))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)}
    level = logging.getLogger('train').level
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.getLogger('train').setLevel(level)
    gc.unfreeze()


# How it ends


@pytest.mark.parametrize(
    ('error', 'status', 'line'),
    [
        (WrongArguments('--lr: wrong'), 2, 'hmix-train: error: --lr: wrong'),
        (RunError('the disk is full'), 1, 'ERROR: the disk is full'),
        (Terminated(), 143, 'Terminated.'),
        (KeyboardInterrupt(), 130, 'Interrupted.'),
        (
            # as torch's loader brings an error of a worker
            UnreadableImage(
                'Traceback\n  a line\ntrain_patch.trainer.data.UnreadableImage: cannot read the image x\n\n'
            ),
            1,
            'ERROR: cannot read the image x',
        ),
    ],
)
def test_each_end_has_a_status_and_a_line_of_its_own(monkeypatch, capsys, error, status, line):
    def fail(args, mixing):
        raise error

    monkeypatch.setattr(train, 'run', fail)
    with pytest.raises(SystemExit) as ended:
        train.main([])
    assert (ended.value.code, capsys.readouterr().err) == (status, f'{line}\n')


def test_sigterm_is_what_ended_a_run_that_saw_its_workers_end_first(monkeypatch, capsys):
    """What a signal's handler raises is lost in a finalizer, such as those of torch's loaders."""

    class Dropping:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def fail(args, mixing):
        raise_on_sigterm()
        monkeypatch.setattr(sys, 'unraisablehook', lambda raised: None)
        Dropping()
        raise RunError('epoch 1: DataLoader worker (pid 7) is killed by signal: Terminated.')

    monkeypatch.setattr(train, 'run', fail)
    with pytest.raises(SystemExit) as ended:
        train.main([])
    assert (ended.value.code, capsys.readouterr().err) == (143, 'Terminated.\n')


def test_errors_that_nobody_foresaw_keep_their_traceback(monkeypatch):
    def fail(args, mixing):
        raise ZeroDivisionError

    monkeypatch.setattr(train, 'run', fail)
    with pytest.raises(ZeroDivisionError):
        train.main([])


def test_a_run_is_told_its_arguments_and_how_it_mixes_and_never_runs_code_from_weights(monkeypatch):
    told = []
    monkeypatch.setattr(train, 'run', lambda *words: told.append((*words, os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'])))
    ended = []
    monkeypatch.setattr(train, 'end_with_torchrun', lambda: ended.append(len(told)))
    train.main(['--mix-mode', 'hmix', '--mixup', '.3', '--epochs', '7'])
    monkeypatch.setattr(sys, 'argv', ['hmix-train', '--epochs', '8'])
    train.main()
    (args, mixing, careful), (theirs, without, _) = told
    assert (args.epochs, args.mix_mode, careful) == (7, 'hmix', '1') and '--mixup 0.3' in mixing.replaced
    assert (theirs.epochs, without.asked) == (8, '')
    assert ended == [0, 1]  # before anything else


# What is built


@pytest.fixture
def built(monkeypatch, image_folder, tmp_path):
    """built('line') → the run that would be trained, and where from."""

    def run(line='', raises=None, small=SMALL):
        found = []

        def train_epochs(state, start_epoch, start_batch):
            found.append((state, start_epoch, start_batch))
            if raises:
                raise raises

        monkeypatch.setattr(loop, 'train_epochs', train_epochs)
        words = shlex.split(f'{small} --data-dir {image_folder} --output {tmp_path} --experiment run {line}')
        train.run(*parse_arguments(words))
        return found[0]

    return run


def test_a_plain_run(built, tmp_path, caplog, capsys):
    state, *start = built('--epochs 3 --cooldown-epochs 2 --warmup-epochs 0 --grad-accum-steps 2 --seed 5')
    assert start == [0, 0] and (state.num_epochs, state.updates.per_epoch) == (5, 1)  # 32 images: two batches
    assert (state.updates.num_batches, state.updates.accum_steps) == (2, 2)
    assert len(state.train_loader) == 2 and len(state.eval_loader) == 2
    assert state.train_model is state.eval_model is state.model and state.eval_average is state.average is None
    assert type(state.loss_fn) is LabelSmoothingCrossEntropy and state.mixup_fn is None
    assert (state.autocast, state.scaler, state.eval_metric, str(state.device)) == (nullcontext, None, 'top1', 'cpu')
    assert [group['lr'] for group in state.optimizer.param_groups] == [0.05] * 2
    weights = {id(weight) for group in state.optimizer.param_groups for weight in group['params']}
    assert weights == {id(weight) for weight in state.model.parameters()}
    assert (state.args.rank, state.args.world_size, state.args.prefetcher) == (0, 1, True)
    assert state.output.folder == tmp_path / 'run' and state.output.eval_metric == 'top1'
    written = yaml.safe_load((tmp_path / 'run' / 'args.yaml').read_text())
    assert (written['epochs'], written['seed'], written['lr']) == (3, 5, 0.05)
    assert not {'rank', 'world_size', 'prefetcher', 'distributed'} & written.keys()  # as given
    assert 'SGD (sgd), lr 0.05, float32, 5 epochs.' in caplog.text
    assert json.loads(capsys.readouterr().out.partition('--result\n')[2]) == []  # the end is reported


@pytest.mark.parametrize(
    ('line', 'precision'),
    [
        ('--amp', 'float16 autocast'),
        ('--amp --amp-dtype bfloat16', 'bfloat16 autocast'),
        ('--model-dtype bfloat16', 'bfloat16'),
    ],
)
def test_the_precision_is_said_and_used(built, caplog, line, precision):
    state, *_ = built(f'{line} --opt adamw --epochs 1')
    assert f'AdamW (adamw), lr 0.05, {precision}, 1 epochs.' in caplog.text
    with state.autocast():
        dtype = state.model(torch.zeros(2, 3, 32, 32, dtype=next(state.model.parameters()).dtype)).dtype
    assert str(dtype) == f'torch.{precision.split()[0]}'


def test_mixing_averaging_and_the_metric_of_a_run(built, caplog):
    state, *_ = built('--mix-mode hmix --mixup .3 --model-ema --eval-metric loss')
    assert type(state.train_loader.loader.collate_fn) is FastCollateMixup and state.mixup_fn is None
    assert type(state.loss_fn) is SoftTargetCrossEntropy
    assert state.eval_average is state.average and state.average.module is not state.model
    assert state.eval_metric == state.output.eval_metric == 'loss'
    assert 'replaced by --mix-mode hmix: --mixup 0.3' in caplog.text and 'Mixing: FastCollateMixup(HMix(' in caplog.text


def test_an_average_on_the_cpu_is_kept_and_not_validated(built):
    state, *_ = built('--mix-mode hmix --no-prefetcher --model-ema --model-ema-force-cpu')
    assert state.average is not None and state.eval_average is None
    assert type(state.mixup_fn) is Mixup


def test_without_validation_the_training_loss_decides(built):
    state, *_ = built('--val-split ""')
    assert state.eval_loader is None and state.eval_metric == state.output.eval_metric == 'loss'


def test_a_run_is_gone_on_with_where_its_checkpoint_stands(built, tmp_path):
    state, *_ = built('--epochs 6')
    state.output.record(2, {'train_loss': 1.0, 'eval_top1': 50.0}, (1.0, 1.0), 50.0, state.state())
    weights = {name: value.clone() for name, value in state.model.state_dict().items()}
    again, *start = built('--epochs 6 --resume auto --seed 9')
    assert start == [3, 0] and list(again.output.rows) == [2]
    assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())
    with pytest.raises(WrongArguments, match='holds a run already'):
        built('--epochs 6')


def test_a_name_is_made_of_model_and_image_size(built, tmp_path):
    state, *_ = built('--experiment "" --img-size 48')
    assert state.output.folder.parent == tmp_path and state.output.folder.name.endswith('-test_resnet-48')


def test_an_image_that_the_model_cannot_take_is_named_before_a_folder_is_made(built, tmp_path):
    with pytest.raises(WrongArguments, match='--batch-size 1: the model test_resnet cannot train'):
        built('-b 1')
    with pytest.raises(WrongArguments, match='--device meta'):
        built('--device meta')
    assert not (tmp_path / 'run').exists()


def test_both_models_are_compiled_where_that_is_asked_for(built, monkeypatch):
    monkeypatch.setattr(torch, 'compile', lambda model, **kwargs: SimpleNamespace(compiled=model, **kwargs))
    state, *_ = built('--torchcompile eager --model-ema')
    assert state.train_model is state.eval_model and state.eval_model.compiled is state.model
    assert state.eval_average.compiled is state.average
    assert isinstance(state.model, nn.Module) and not hasattr(state.model, 'compiled')


def test_an_interrupt_is_reported_and_passed_on(built, capsys):
    with pytest.raises(Terminated):
        built(raises=Terminated())
    assert '--result' in capsys.readouterr().out
    with pytest.raises(RunError):
        built('--experiment other', raises=RunError())
    assert '--result' not in capsys.readouterr().out


def test_weights_and_biases_are_started_where_that_is_asked_for(built, monkeypatch, tmp_path):
    started = []
    monkeypatch.setitem(sys.modules, 'wandb', SimpleNamespace(init=lambda **kwargs: started.append(kwargs['name'])))
    sys.modules['wandb'].__spec__ = SimpleNamespace()
    built('--log-wandb')
    built('--experiment other')
    assert started == ['run']


def test_too_old_a_timm_is_named_first(monkeypatch):
    monkeypatch.setattr('timm.__version__', '1.0.19')
    with pytest.raises(RunError, match=r'timm 1.0.19 at .* is too old'):
        train.run(SimpleNamespace(), '')


# On several processes


@pytest.mark.parametrize(
    ('rank', 'line', 'buffers', 'device'),
    [(0, '', True, 'cpu'), (1, '--no-ddp-bb', False, 'cpu'), (1, '', True, 'meta')],
)
def test_what_one_of_several_processes_holds(built, monkeypatch, tmp_path, capsys, rank, line, buffers, device):
    wrapped, left = [], []

    def join(args):
        vars(args).update(distributed=True, rank=rank, local_rank=rank, world_size=2)
        return torch.device(device)

    class Distributed:
        def __init__(self, model, **kwargs):
            wrapped.append((model, kwargs))

    monkeypatch.setattr(processes, 'join_processes', join)
    monkeypatch.setattr(processes, 'leave_processes', lambda: left.append(capsys.readouterr().out))
    monkeypatch.setattr(loaders, 'build_loaders', lambda *given: ([1, 2, 3], [1]))
    monkeypatch.setattr('torch.nn.parallel.DistributedDataParallel', Distributed)
    state, *_ = built(f'{line} --epochs 1')
    assert type(state.train_model) is Distributed and state.eval_model is state.model
    device_ids = None if device == 'cpu' else [torch.device(device)]
    assert wrapped == [(state.model, {'device_ids': device_ids, 'broadcast_buffers': buffers})]
    assert len(left) == 1 and '--result' not in left[0]
    assert (state.output is None) == bool(rank) == (not (tmp_path / 'run').exists())
    assert ('--result' in capsys.readouterr().out) == (rank == 0)


def test_parts_are_built_data_first(built, monkeypatch):
    order = []
    for module, name in ((data, 'load_datasets'), (setup, 'build_model'), (loaders, 'build_loaders')):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, f=function, n=name: order.append(n) or f(*given))
    built()
    assert order == ['load_datasets', 'build_model', 'build_loaders']
