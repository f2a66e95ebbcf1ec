"""What a run's last checkpoint does on other images than those of its own validation: `--evaluate`."""

import argparse
import contextlib
import json
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common.errors import RunError
from ..common.files import write_json
from ..trainer.checkpoints import finished_checkpoints, load_parts, read_checkpoint
from .reading import read_arguments
from .results import MEASURED, Results

KINDS = ('train', 'fgsm', 'pgd', 'corruption', 'occlusion', 'calibration')
RECORD = 'evaluation.json'
"""In a run's folder: what was measured there, so that it is measured once."""


def evaluate_all(results: Results, options: argparse.Namespace, signals: Sequence[int] = ()) -> Results:
    """Evaluates the finished runs; a `note` says of a run that it cannot be, or that its images seem to be others.

    Args:
        results: the runs.
        options: `evaluate`, the kinds, `attack_eps`, `evaluate_images` and `last` of the command; beside `table` also
            `data_dir`, where the data are now.
        signals: from `noting_signals`; the first one ends it.
    """
    if not options.evaluate:
        return results
    from tqdm import tqdm

    runs = []
    for run in tqdm(results.runs, desc=f'{results.name}: evaluating', unit='run'):
        if run.state == 'finished' and not signals:
            moved = {'data_dir': options.data_dir} if options.table and options.data_dir else {}
            arguments = read_arguments(run.folder / 'args.yaml') | moved
            try:
                found = evaluate(run.folder, arguments, options.evaluate, options.attack_eps, options.evaluate_images)
                top1 = found.get('ema_top1', found['top1'])
                if (run.metric, options.last) == ('eval_top1', 1) and abs(top1 - run.value) > 0.1:
                    found['note'] = f'has a top-1 of {top1:.2f} here, and summary.csv has {run.value:.2f}'
            except RunError as error:
                found = {'note': f'is not evaluated: {error}'}
            run = replace(run, evaluated=found)
        runs.append(run)
    return replace(results, runs=runs)


def evaluate(
    folder: Path, arguments: Mapping[str, Any], kinds: Collection[str], epsilon: float, images: int
) -> dict[str, Any]:
    """Measures the weights that a run ended with, its moving average too where it has one.

    Args:
        folder: of the run.
        arguments: of its training.
        kinds: some of `KINDS`.
        epsilon: ε of the attacks, for values in [0, 1].
        images: number of validation images, evenly spaced, that are attacked, damaged and covered.

    Returns:
        Name → number; the names of the moving average's begin with `ema_`. `bins` is that of `robustness.calibration`.

    Raises:
        RunError: there is no checkpoint, no such data, no finite loss, or a task other than one class for each image.
    """
    paths = finished_checkpoints(folder)
    if not paths:
        raise RunError(f'there is no checkpoint in {folder}')
    facts, data = paths[0].stat(), arguments.get('data_dir') or arguments.get('data')
    asked = {'kinds': sorted(kinds), 'epsilon': epsilon, 'images': images, 'data': data, 'names': [*MEASURED]}
    asked['checkpoint'] = [paths[0].name, facts.st_size, facts.st_mtime_ns]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((folder / RECORD).read_text())
        if known['asked'] == asked:
            return known['found']
    found = _measure(paths[0], arguments, kinds, epsilon, images)
    with contextlib.suppress(RunError):  # somebody else's folder, which may not be written to: measured again next time
        write_json(folder / RECORD, {'asked': asked, 'found': found})
    return found


def _measure(
    path: Path, arguments: Mapping[str, Any], kinds: Collection[str], epsilon: float, images: int
) -> dict[str, Any]:
    import torch
    from timm.data import create_transform, resolve_data_config

    from ..trainer import data, setup
    from ..trainer.arguments import parse_arguments
    from .robustness import PARTS, accuracies, calibration, changes

    checkpoint = read_checkpoint(path)
    args = parse_arguments([])[0]  # an older script of timm's may lack an option
    vars(args).update(arguments, pretrained=False, pretrained_path=None, initial_checkpoint='', dataset_download=False)
    vars(args).update(data_dir=args.data_dir or args.data, distributed=False, rank=0)
    train, validation = data.load_datasets(args)
    if validation is None:
        raise RunError('it was trained without validation images')
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = setup.build_model(args, train, device).eval().requires_grad_(False)
    config = resolve_data_config(vars(args), model=model)
    if 'corruption' in kinds and config['input_size'][0] not in (1, 3):
        raise RunError(f'corruption is for images of 1 or 3 channels, not {config["input_size"][0]}')
    mean, std = (torch.tensor(config[name]).view(-1, 1, 1) for name in ('mean', 'std'))
    sizes = {name: config[name] for name in ('input_size', 'interpolation', 'crop_pct')}
    train.transform = validation.transform = create_transform(**sizes, mean=(0.0,), std=(1.0,))

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        scores = model(((pixels - mean) / std).to(device))
        return (scores[0] if isinstance(scores, (tuple, list)) else scores).float().cpu()

    def batches(dataset: Any, count: int) -> Any:
        """Evenly spaced images, of every class and not of the first ones alone."""
        picked = torch.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().int().tolist()
        subset = torch.utils.data.Subset(dataset, picked)
        return torch.utils.data.DataLoader(
            subset, args.validation_batch_size or args.batch_size, num_workers=args.workers
        )

    if not isinstance(validation[0][1], int):
        raise RunError('only one class for each image can be evaluated')
    found: dict[str, Any] = {}
    for prefix, name in (('', 'state_dict'), ('ema_', 'state_dict_ema')):
        if name in checkpoint:
            load_parts({name: model}, path, checkpoint)
            values, bins = calibration(predict, batches(validation, len(validation)))
            if not math.isfinite(values['nll']):
                raise RunError(f'the loss of the {name} in {path} is {values["nll"]}')
            if 'train' in kinds:
                seen = calibration(predict, batches(train, len(validation)))[0]
                values |= {'train_top1': seen['top1'], 'train_nll': seen['nll'], 'gap': seen['top1'] - values['top1']}
            if 'calibration' not in kinds:
                del values['ece'], values['nll']
            values |= accuracies(predict, batches(validation, images), changes(predict, kinds, epsilon))
            for kind, parts in PARTS.items():
                if kind in kinds:
                    values[kind] = statistics.fmean(values[part] for part in parts)
            found |= {prefix + key: value for key, value in {**values, 'bins': bins}.items()}
    return found
