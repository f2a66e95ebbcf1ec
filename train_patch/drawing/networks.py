"""Figures 5 and 6: Eq. 12 and Theorem 1 on trained networks, the user's checkpoints or small ones trained here."""

import argparse
import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hmix_timm.mixup import Mixup
from hmix_timm.modes import mix_modes
from hmix_timm.theory.gradients import gradient_map
from hmix_timm.theory.laws import Estimate, mean_and_error
from hmix_timm.theory.prediction import Prediction, predict

from ..common.errors import RunError
from ..common.files import first_line
from ..common.tables import Table
from .digit_networks import IMAGE_SIZE, digit_images, one_thread, train_digits
from .theory_figures import Numbers, Plotted, along_x, correlation_with_gain, figure5, figure6
from .trained import checkpoint_names, load_images, load_model, run_settings

BASELINE = 'none'
PAPERS_FIGURE_5 = (BASELINE, 'mixup', 'cutmix')
EPOCHS = 15
FEW_IMAGES = 50
"""Training digits for Figure 6: with so few, mixing gains something."""

FEW_IMAGES_EPOCHS = 100
LOOKED_AT = 200
"""Other digits on which Figure 6 looks at the small networks."""


class Network(NamedTuple):
    """A trained network with images to look at it with."""

    name: str
    model: torch.nn.Module
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
    """Images on the network's device and class indices; may be gone through several times."""
    length: int
    """Number of batches."""


class OnDevice:
    """Batches of a loader, on a device."""

    def __init__(self, loader: Any, device: str) -> None:
        self.loader, self.device = loader, device

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for images, labels in self.loader:
            yield images.to(self.device), labels.to(self.device)


def checkpoint_networks(args: argparse.Namespace, shuffled: bool = False) -> Iterator[Network]:
    """The networks of `--checkpoint`, one at a time."""
    for name, path in zip(checkpoint_names(args.checkpoint), args.checkpoint, strict=True):
        settings = run_settings(path)
        model, config = load_model(args, path, settings)
        loader = load_images(args, settings, config, shuffled)
        yield Network(name, model, OnDevice(loader, args.device), len(loader))


def looked_through(network: Network, number: int) -> np.ndarray:
    """Eq. 12's map of a network, with a progress bar."""
    images = (x for x, _ in network.batches)
    try:
        return gradient_map(network.model, images, network.length, f'figure {number}: {network.name}')
    except ValueError as error:
        raise RunError(f'{network.name}: {error}') from error


def figure5_digits(seeds: int = 2) -> Plotted:
    """Eq. 12 for small networks trained on digits without mixing, with Mixup and with CutMix: the paper's three."""
    from tqdm import tqdm

    maps, numbers = {}, {}
    total = len(PAPERS_FIGURE_5) * seeds * EPOCHS
    with tqdm(total=total, desc='figure 5: training on digits', unit='epoch') as progress:
        for mode in PAPERS_FIGURE_5:
            results, accuracies = [], []
            for seed in range(seeds):
                model, images, accuracy = train_digits(mode, seed, EPOCHS, progress=progress)
                with one_thread():
                    results.append(gradient_map(model, images.split(100)))
                accuracies.append(accuracy)
            title = mix_modes()[mode].title
            maps[title] = np.mean(results, axis=0)
            numbers[mode] = {**along_x(maps[title], (0, 1, 2, 4, 8)), 'top1': float(np.mean(accuracies))}
    title = (
        'Normalized partial gradient products (Eq. 12): small CNNs trained for seconds '
        f"on scikit-learn's digits, {IMAGE_SIZE}×{IMAGE_SIZE}, mean of {seeds} seeds"
    )
    return figure5(maps, title), numbers


def figure5_checkpoints(args: argparse.Namespace) -> Plotted:
    """Eq. 12 for the user's own checkpoints, a panel each."""
    maps = {network.name: looked_through(network, 5) for network in checkpoint_networks(args)}
    numbers = {name: along_x(values) for name, values in maps.items()}
    return figure5(maps, 'Normalized partial gradient products (Eq. 12) of trained networks'), numbers


def figure6_checkpoints(args: argparse.Namespace) -> Plotted:
    """Predictions for the mix modes of a comparison's results.csv, on its networks that were trained without mixing."""
    gains = measured_gains(args.results)
    found = {network.name: _predict(network, gains, args) for network in checkpoint_networks(args, shuffled=True)}
    title = f'Predicted by networks trained without mixing, and measured ({args.results})'
    return _figure6(found, gains, title)


def figure6_digits(args: argparse.Namespace, seeds: int = 3) -> Plotted:
    """The same for small networks trained here, on so few digits that mixing gains something."""
    from tqdm import tqdm

    modes = [name for name, mode in mix_modes().items() if mode.draws_masks]
    total = (1 + len(modes)) * seeds * FEW_IMAGES_EPOCHS
    top1: dict[str, dict[int, float]] = {}
    networks = []
    labels = digit_images()[1][-LOOKED_AT:]
    with tqdm(total=total, desc='figure 6: training on digits', unit='epoch') as progress:
        for mode in (BASELINE, *modes):
            for seed in range(seeds):
                model, images, accuracy = train_digits(mode, seed, FEW_IMAGES_EPOCHS, FEW_IMAGES, progress)
                top1.setdefault(mode, {})[seed] = accuracy
                if mode == BASELINE:
                    batch = images[-LOOKED_AT:], labels
                    networks.append(Network(f'seed {seed}', model, [batch], 1))
    gains = paired_gains(top1)
    with one_thread():
        found = {network.name: _predict(network, gains, args) for network in networks}
    title = (
        f'Predicted by small CNNs trained without mixing on {FEW_IMAGES} digits, '
        f'and measured on the others ({seeds} seeds)'
    )
    return _figure6(found, gains, title)


def _predict(network: Network, gains: Mapping[str, Estimate], args: argparse.Namespace) -> dict[str, Prediction]:
    mixers = {name: Mixup.from_mode(name, args.mix_preset) for name in gains}
    products = looked_through(network, 6)
    return predict(network.model, network.batches, products, mixers)


def _figure6(found: Mapping[str, Mapping[str, Prediction]], gains: Mapping[str, Estimate], title: str) -> Plotted:
    predictions = {name: _mean([of[name] for of in found.values()]) for name in gains}
    numbers: Numbers = {
        name: {**_as_numbers(prediction), 'gain': gains[name]._asdict()} for name, prediction in predictions.items()
    }
    correlations = {
        quantity: correlation_with_gain(predictions, gains, quantity)
        for quantity in ('coefficient', 'regularization', 'mixing')
    }
    numbers = {'mix_modes': numbers, 'rank_correlation_with_gain': correlations, 'networks': {}}
    for network, of in found.items():
        numbers['networks'][network] = {name: _as_numbers(prediction) for name, prediction in of.items()}
    return figure6(predictions, gains, title), numbers


def _as_numbers(prediction: Prediction) -> Numbers:
    return {quantity: estimate._asdict() for quantity, estimate in prediction._asdict().items()}


def _mean(predictions: Sequence[Prediction]) -> Prediction:
    """Mean over networks; the standard error is that of the draws, and knows nothing of further networks."""
    means = []
    for estimates in zip(*predictions, strict=True):
        errors = [estimate.standard_error or 0.0 for estimate in estimates]
        value = float(np.mean([estimate.value for estimate in estimates]))
        means.append(Estimate(value, math.hypot(*errors) / len(errors)))
    return Prediction(*means)


def measured_gains(path: Path) -> dict[str, Estimate]:
    """Mix mode → gain over no mixing in percentage points, paired by seed, from a results.csv of hmix-compare.

    Raises:
        ValueError: the file is no such table, or lacks what is compared.
    """
    try:
        with path.open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
        top1 = {
            row['mode']: {
                int(column.removeprefix('top1_seed')): float(value)
                for column, value in row.items()
                if column is not None and column.startswith('top1_seed') and value
            }
            for row in rows
        }
    except OSError as error:
        raise ValueError(f'{path}: {first_line(error)}') from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ValueError(f'{path} is not a results.csv of hmix-compare') from error
    if not top1.get(BASELINE):
        raise ValueError(f"{path} has no results for '{BASELINE}', to which mixing is compared")
    known = {name for name, mode in mix_modes().items() if mode.draws_masks}
    gains = paired_gains({name: found for name, found in top1.items() if name in known or name == BASELINE})
    if not gains:
        raise ValueError(f"{path} has no mix mode with the seeds of '{BASELINE}'")
    return gains


def paired_gains(top1: Mapping[str, Mapping[int, float]]) -> dict[str, Estimate]:
    """Mix mode → mean difference to the baseline over the seeds that both have, with the standard error over seeds."""
    gains = {}
    for name, found in top1.items():
        differences = [value - top1[BASELINE][seed] for seed, value in found.items() if seed in top1[BASELINE]]
        if name != BASELINE and differences:
            gains[name] = mean_and_error(differences)
    return gains


def prediction_table(numbers: Numbers) -> Table:
    """What figures.json says of Figure 6, as a table: predictions and gains with their standard errors."""
    columns = {
        'coefficient': 'Eq. 12 coefficient',
        'r1': 'R₁',
        'r2': 'R₂',
        'r3': 'R₃',
        'regularization': 'R₁ + R₂ + R₃',
        'mixing': 'mixing − plain loss',
        'gain': 'gain (points)',
    }
    return [
        {'mix mode': name, **{title: _shown(of[quantity]) for quantity, title in columns.items()}}
        for name, of in numbers['mix_modes'].items()
    ]


def _shown(estimate: Mapping[str, Any]) -> str:
    error = estimate['standard_error']
    return f'{estimate["value"]:.3f}' if error is None else f'{estimate["value"]:.3f} ± {error:.3f}'
