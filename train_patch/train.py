"""A lean training script on timm's library: timm's arguments and recipes in, timm's files out.

One process (CPU, or the one GPU there is):
    hmix-train --data-dir DIR --model resnet50 --num-classes 10 --mix-mode hmix --output runs --experiment first
Eight GPUs of one machine (gloo on the CPU with --device cpu):
    torchrun --nproc_per_node 8 -m train_patch.train --data-dir DIR --model resnet50 --amp --mix-mode hmix
A recipe, which the command line beats:
    hmix-train -c recipe.yaml --epochs 90
On with a run that was killed (a fresh folder starts from the beginning):
    hmix-train -c recipe.yaml --output runs --experiment first --resume auto

DIR holds train/ and validation/ with one folder of images per class. OUTPUT/EXPERIMENT receives
    args.yaml       the arguments; `-c args.yaml` repeats the run
    summary.csv     epoch, train_loss, eval_loss, eval_top1, eval_top5, lr: the same for the same seed on the CPU
    times.csv       epoch, train_time, eval_time in seconds, which never repeat
    last.pth.tar, model_best.pth.tar, checkpoint-N.pth.tar, recovery-N-BATCH.pth.tar: timm's checkpoints

Draws depend on seed, rank, worker and epoch alone, so on the CPU a run that was killed and resumed gives the table of
one that was not. Exceptions: iterable data sets (wds, hfids, tfds), --use-multi-epochs-loader, and an epoch resumed
from a recovery checkpoint, which goes on with newly drawn batches.

What timm's own train.py can do beyond this is refused by name (`REFUSED` in `trainer/options.py`).
Exit status: 0 when all epochs are done, 1 after one line about what stopped the run, 2 after one about wrong arguments
or data, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from .common.errors import RunError
from .common.processes import Terminated, end_with_torchrun, was_terminated
from .common.timm_version import require_timm_for_training
from .common.weights import only_weights
from .imports import uncollected
from .mixing import Mixing
from .trainer.arguments import WrongArguments, parse_arguments

_logger = logging.getLogger('train')


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as the arguments say.

    Args:
        argv: the arguments; those of the process if left out.

    Raises:
        SystemExit: the run did not come to its end; the status says why.
    """
    end_with_torchrun()
    args, mixing = parse_arguments(argv)
    try:
        with only_weights():  # however timm comes to load a file: from a hub, from a path, in an older version
            run(args, mixing)
    except WrongArguments as error:
        _end(2, f'hmix-train: error: {error}')
    except RunError as error:
        if was_terminated():  # and this is what the end of its workers looked like
            _end(143, 'Terminated.')
        # from a loader worker the message comes with the worker's traceback before it
        line = str(error).strip().splitlines()[-1].removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
        _end(1, f'ERROR: {line}')
    except Terminated:
        _end(143, 'Terminated.')
    except KeyboardInterrupt:
        _end(130, 'Interrupted.')


def _end(status: int, line: str) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(status)


def run(args: argparse.Namespace, mixing: Mixing) -> None:
    """Builds everything and trains, from the first line to the last.

    Args:
        args: checked.
        mixing: how the run mixes.
    """
    # torch and timm take seconds to import: after the arguments, so that neither --help nor a typo waits for them
    with uncollected():
        require_timm_for_training()
        from timm import utils
        from timm.data import resolve_data_config
        from torch.nn.parallel import DistributedDataParallel

        from .trainer import data, loaders, loop, output, resume, setup
        from .trainer import distributed as processes
        from .trainer.checks import check_arguments
        from .trainer.state import Run, Updates

    utils.setup_default_logging()
    check_arguments(args)
    arguments = dict(vars(args))  # as given; what follows adds what belongs to this process alone
    device = processes.join_processes(args)
    setup.prepare_torch(args, device)

    # Data first: it is what goes wrong most often, and a large model takes its time.
    datasets = data.load_datasets(args)
    model = setup.build_model(args, datasets[0], device)
    data_config = resolve_data_config(vars(args), model=model, verbose=utils.is_primary(args))
    setup.check_images_fit(args, model, data_config['input_size'], device)
    autocast, scaler = setup.build_precision(args, device)
    mixup_fn, collate_fn = setup.build_mixers(args, model, data_config, autocast, mixing)
    train_loader, eval_loader = loaders.build_loaders(args, datasets, data_config, device, collate_fn)

    optimizer = setup.build_optimizer(args, model)
    eval_metric = args.eval_metric if eval_loader is not None else 'loss'
    updates = Updates(len(train_loader), args.grad_accum_steps)
    schedule, num_epochs = setup.build_schedule(args, optimizer, updates.per_epoch, eval_metric)
    state = Run(
        args=args,
        device=device,
        model=model,
        average=setup.build_average(args, model),
        mixup_fn=mixup_fn,
        train_loader=train_loader,
        eval_loader=eval_loader,
        loss_fn=setup.build_loss(args, mixing.active).to(device),
        optimizer=optimizer,
        schedule=schedule,
        num_epochs=num_epochs,
        updates=updates,
        autocast=autocast,
        scaler=scaler,
        eval_metric=eval_metric,
    )
    if utils.is_primary(args):
        precision = f'{args.amp_dtype} autocast' if args.amp else f'{args.model_dtype or "float32"}'
        _logger.info(f'{type(optimizer).__name__} ({args.opt}), lr {args.lr:g}, {precision}, {num_epochs} epochs.')

    folder = output.output_folder(args, data_config['input_size'])
    checkpoint = resume.find_resume_path(args, folder, device)
    if utils.is_primary(args):
        state.output = output.Output(folder, arguments, eval_metric, checkpoint)
    start_epoch, start_batch = resume.restore(state, checkpoint)

    # Compiled and distributed views of the one model; `model` itself stays what is saved and averaged.
    state.train_model = state.eval_model = setup.compile_model(args, model)
    state.eval_average = setup.compile_model(args, None if args.model_ema_force_cpu else state.average)
    if args.distributed:
        device_ids = None if device.type == 'cpu' else [device]
        state.train_model = DistributedDataParallel(
            state.train_model, device_ids=device_ids, broadcast_buffers=not args.no_ddp_bb
        )
    if args.log_wandb and state.output is not None:
        state.output.start_wandb()

    try:
        loop.train_epochs(state, start_epoch, start_batch)
        if args.distributed:
            processes.leave_processes()
    except KeyboardInterrupt:
        if state.output is not None:
            state.output.report()
        raise
    if state.output is not None:
        state.output.report()


if __name__ == '__main__':
    main()
