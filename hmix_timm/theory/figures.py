"""The paper's Figures 1 to 5, recomputed: `hmix-figures --output DIR`, or `python -m hmix_timm.theory.figures`.

    hmix-figures --output figures
    hmix-figures --output figures --figures 5 --model resnet50 --data-dir /data/imagenet --img-size 64 \
        --checkpoint runs/none/model_best.pth.tar runs/cutmix/model_best.pth.tar

Writes figure1.png … figure5.png and, with the numbers behind them, figures.json. The pictures are scikit-learn's sample
photographs; Figure 5 trains small networks on scikit-learn's digits, or takes the user's own checkpoints.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..draws import numpy_seed
from ..families import make_slot
from ..files import write_json
from ..masks import Mask, mixup_mask
from ..pictures import blended, mix_grid, new_figure, require_demo_extra, save_figure
from ..scikit_images import photographs
from . import closed_forms
from .approximation import two_moons_curves
from .coefficients import CoefficientMap, coefficient_map
from .digits import IMAGE_SIZE, one_thread, train_digits
from .gradients import gradient_map

DISPLACEMENTS = (0, 16, 32)
"""Horizontal displacements in pixels whose coefficients figures.json gives."""

Numbers = dict[str, Any]
Drawn = tuple[Any, Numbers]
"""A matplotlib `Figure` and the numbers behind it."""


def figure1() -> Drawn:
    """Theorem 1: training with the original and with the approximate loss on two moons."""
    steps = 100
    curves = two_moons_curves(steps=steps)
    figure = new_figure((9, 3.6))
    titles = {
        'mixup': r'Mixup: $M = \lambda\vec{1}$',
        'cutmix': r'CutMix variant: $M = (m_1, m_2)$, $m_i \sim$ Bernoulli($\lambda$)',
    }
    for ax, (name, pair) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
        ax.plot(pair['original'], label='original loss (Eq. 4)', color='C0')
        ax.plot(pair['approximate'], label=r'approximate loss $L_m + R_1 + R_2 + R_3$', color='C1', linestyle='--')
        ax.set_title(titles[name], fontsize=11)
        ax.set_xlabel('gradient step')
        ax.set_ylim(0.0, 0.75)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel('training loss')
    figure.axes[0].legend(loc='lower left')
    figure.suptitle(r'Logistic regression on two moons, $\lambda \sim$ Beta(1, 1)', fontsize=12)
    numbers = {
        name: {kind: {str(step): float(curve[step]) for step in (0, 10, 50, steps)} for kind, curve in pair.items()}
        for name, pair in curves.items()
    }
    return figure, numbers


def figure2() -> Drawn:
    """Theorem 2's masks leave [0, 1]: what mixing with a negative λ looks like."""
    flower, temple = photographs((192, 192))
    lams = [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]
    figure = new_figure((14, 2.6))
    for ax, lam in zip(figure.subplots(1, len(lams)), lams, strict=True):
        ax.imshow(blended(flower, temple, mixup_mask(lam)))
        ax.set_title(rf'$\lambda = {lam:g}$', fontsize=11)
        ax.set_axis_off()
    figure.suptitle(
        r'$\lambda\cdot$flower $+ (1-\lambda)\cdot$temple, values clipped to what can be shown', fontsize=12
    )
    return figure, {'lam': lams}


def figure3(lam: float = 0.65, ratio: float = 0.5, seed: int = 9) -> Drawn:
    """Mixes of two photographs and their masks."""
    size = (224, 224)
    masks: dict[str, Mask] = {'Mixup': mixup_mask(lam)}
    for name, slot in (
        ('CutMix', make_slot()),
        ('HMix', make_slot('hmix', hmix_ratio=ratio)),
        ('GMix', make_slot('gmix')),
    ):
        with numpy_seed(seed):  # the same seed: the same centre
            masks[name], _ = slot.draw(size, lam)
    figure = mix_grid(*photographs(size), masks, rf'$\lambda = {lam:g}$, HMix with $r = {ratio:g}$')
    return figure, {'lam': lam, 'hmix_ratio': ratio, 'mask_mean': {name: mask.mean for name, mask in masks.items()}}


def figure4() -> Drawn:
    """Regularization coefficients of every method at λ = 0.5 on 64 × 64 pixels."""
    lam, size, ratio = 0.5, (64, 64), 0.75
    maps = {
        'mixup': coefficient_map('mixup', lam, size),
        'cutmix': coefficient_map('cutmix', lam, size),
        'stochastic': coefficient_map('stochastic', lam, size),
        'hmix': coefficient_map('hmix', lam, size, hmix_ratio=ratio),
        'gmix': coefficient_map('gmix', lam, size),
        'gmix_paper': coefficient_map('gmix', lam, size, gmix_kernel='paper'),
    }
    span = np.arange(1 - size[0], size[0])
    distance = np.hypot(span[:, None], span[None, :])
    maps['gmix_eq11'] = CoefficientMap(closed_forms.gmix_coefficient(distance, lam, size, 'paper'), None, 0)
    titles = {
        'mixup': 'Mixup',
        'cutmix': 'CutMix',
        'stochastic': 'Stochastic\nMixup & CutMix',
        'hmix': f'HMix (r = {ratio:g})',
        'gmix': 'GMix\n(reference kernel)',
        'gmix_paper': "GMix\n(paper's kernel)",
        'gmix_eq11': 'GMix, Eq. 11\n(no borders)',
    }
    figure = new_figure((12, 6.4))
    axes = figure.subplots(2, 4).flat
    shown = None
    for ax, (name, result) in zip(axes, maps.items(), strict=False):
        shown = ax.imshow(result.values, vmin=0.0, vmax=0.5, cmap='viridis', extent=_extent(size[0], size[1]))
        ax.set_title(titles[name], fontsize=11)
        ax.set_xticks([-48, 0, 48])
        ax.set_yticks([-48, 0, 48])
    bar = figure.colorbar(shown, ax=figure.axes[:7], location='left', fraction=0.02, pad=0.01, ticks=[0, 0.25, 0.5])
    bar.set_label(r'$E_i\,a_{i,i+(x,y)}$')
    ax = figure.axes[7]
    for name, result in maps.items():
        style = '--' if name == 'gmix_eq11' else '-'
        ax.plot(
            np.arange(size[1]), result.values[size[0] - 1, size[1] - 1 :], style, label=titles[name].replace('\n', ' ')
        )
    ax.set_title('Along the x axis', fontsize=11)
    ax.set_xlabel('horizontal displacement (pixels)')
    ax.set_ylim(0.0, 0.95)  # room for the legend above the curves
    ax.set_yticks(np.arange(0.0, 0.6, 0.1))
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7, loc='upper right')
    figure.suptitle(
        r'Regularization coefficients at $\lambda = 0.5$, $64\times 64$, as the mixers draw them, by displacement',
        fontsize=12,
    )
    return figure, {name: {str(d): result.at(0, d) for d in DISPLACEMENTS} for name, result in maps.items()}


def figure5_digits(seeds: int = 2) -> Drawn:
    """Eq. 12 for small networks trained on digits without mixing, with Mixup and with CutMix."""
    from tqdm import tqdm

    modes = {'none': 'Vanilla (no MSDA)', 'mixup': 'Mixup', 'cutmix': 'CutMix'}
    epochs = 15
    maps, numbers = {}, {}
    with tqdm(total=len(modes) * seeds * epochs, desc='figure 5: training on digits', unit='epoch') as progress:
        for mode, title in modes.items():
            results, accuracies = [], []
            for seed in range(seeds):
                model, images, accuracy = train_digits(mode, seed, epochs, progress)
                with one_thread():
                    results.append(gradient_map(model, images.split(100)))
                accuracies.append(accuracy)
            maps[title] = np.mean(results, axis=0)
            numbers[mode] = {**_row(maps[title], (0, 1, 2, 4, 8)), 'top1': float(np.mean(accuracies))}
    title = (
        'Normalized partial gradient products (Eq. 12): small CNNs trained for seconds '
        f"on scikit-learn's digits, {IMAGE_SIZE}×{IMAGE_SIZE}, mean of {seeds} seeds"
    )
    return _figure5(maps, title), numbers


def figure5_checkpoints(args: argparse.Namespace) -> Drawn:
    """Eq. 12 for the user's own checkpoints over a folder of images."""
    maps = {}
    for path in args.checkpoint:
        name = '/'.join(path.parts[-2:])
        model, config = _load_model(args, path)
        batches, total = _batches(args, config)
        maps[name] = gradient_map(model, batches, total, f'figure 5: {name}')
    numbers = {name: _row(values, (0, 1, 2, 4, 8, 16, 32)) for name, values in maps.items()}
    return _figure5(maps, f'Normalized partial gradient products (Eq. 12): {args.model}, {args.data_dir}'), numbers


def _figure5(maps: dict[str, np.ndarray], title: str) -> Any:
    figure = new_figure((max(3.6 * len(maps) + 0.8, 9.0), 4.2))
    top = max(values.max() for values in maps.values())
    shown = None
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, (name, values), letter in zip(axes, maps.items(), 'abcdefghijklmnopqrstuvwxyz', strict=False):
        height, width = (n // 2 + 1 for n in values.shape)
        shown = ax.imshow(values, vmin=0.0, vmax=top, cmap='viridis', extent=_extent(height, width))
        ax.set_title(f'({letter}) {name}', fontsize=11)
        ax.set_xlabel('horizontal displacement (pixels)')
    axes[0].set_ylabel('vertical displacement (pixels)')
    figure.colorbar(shown, ax=axes, fraction=0.02, pad=0.01, label='PartialGradProd, normalized')
    figure.suptitle(title, fontsize=11)
    return figure


def _row(values: np.ndarray, displacements: Sequence[int]) -> Numbers:
    """Values at horizontal displacements, those that the map has."""
    height, width = (n // 2 for n in values.shape)
    return {str(d): float(values[height, width + d]) for d in displacements if d <= width}


def _extent(height: int, width: int) -> tuple[float, float, float, float]:
    """imshow's extent for a map of displacements: (0, 0) in the middle of the middle pixel."""
    return 0.5 - width, width - 0.5, height - 0.5, 0.5 - height


def _load_model(args: argparse.Namespace, path: Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The model with the checkpoint's weights on the device, and timm's data configuration for it."""
    from timm.data import resolve_data_config
    from timm.models import create_model, load_checkpoint

    kwargs = {} if args.num_classes is None else {'num_classes': args.num_classes}
    model = create_model(args.model, **kwargs)
    # timm's training checkpoints hold their arguments as a Namespace beside the weights
    with torch.serialization.safe_globals([argparse.Namespace]):
        load_checkpoint(model, str(path), weights_only=True)
    sizes = {} if args.img_size is None else {'img_size': args.img_size}
    return model.to(args.device), resolve_data_config(sizes, model=model)


def _batches(args: argparse.Namespace, config: dict[str, Any]) -> tuple[Iterator[torch.Tensor], int]:
    """Normalized batches of the folder's images through timm's evaluation transform, and their number."""
    from timm.data import create_dataset, create_loader

    dataset = create_dataset('', root=str(args.data_dir), split=args.split)
    if args.max_images is not None and args.max_images < len(dataset):
        # images of every class, not the first classes
        picked = np.linspace(0, len(dataset) - 1, args.max_images).round().astype(int)
        dataset.reader.samples = [dataset.reader.samples[i] for i in picked]
    loader = create_loader(
        dataset,
        batch_size=args.batch_size,
        input_size=config['input_size'],
        interpolation=config['interpolation'],
        mean=config['mean'],
        std=config['std'],
        crop_pct=config['crop_pct'],
        crop_mode=config['crop_mode'],
        num_workers=args.workers,
        persistent_workers=False,
        device=torch.device(args.device),
    )
    return (images for images, _ in loader), len(loader)


def make_parser() -> argparse.ArgumentParser:
    """The command's options; names and meanings are timm's where timm has them."""
    parser = argparse.ArgumentParser(
        prog='hmix-figures', description="Recompute the paper's Figures 1 to 5 and the numbers behind them."
    )
    parser.add_argument(
        '--output', required=True, type=Path, metavar='DIR', help='folder for the PNGs and figures.json'
    )
    parser.add_argument(
        '--figures', nargs='+', type=int, default=[1, 2, 3, 4, 5], choices=range(1, 6), metavar='N', help='1 2 3 4 5'
    )
    own = parser.add_argument_group('Figure 5 from your own runs')
    own.add_argument('--checkpoint', nargs='+', type=Path, metavar='PATH', help='checkpoints, a panel each')
    own.add_argument('--model', metavar='NAME', help='timm model of the checkpoints')
    own.add_argument('--num-classes', type=int, metavar='N', help="classes of the checkpoints (default: the model's)")
    own.add_argument('--data-dir', type=Path, metavar='DIR', help='folder of images, or of splits of images')
    own.add_argument('--split', default='validation', metavar='NAME', help='split in the folder (default: validation)')
    own.add_argument(
        '--img-size', type=int, metavar='N', help="image size; the cost grows with its 4th power (default: the model's)"
    )
    own.add_argument('--max-images', type=int, metavar='N', help='evenly spaced images of the folder (default: all)')
    own.add_argument('-b', '--batch-size', type=int, default=64, metavar='N', help='images at a time (default: 64)')
    own.add_argument('-j', '--workers', type=int, default=2, metavar='N', help='loader workers (default: 2)')
    own.add_argument('--device', default='cpu', help='device of the model (default: cpu)')
    return parser


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends with the parser's error where options contradict each other or a path is not there."""
    for name in ('img_size', 'max_images', 'batch_size', 'num_classes'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be >= 1, got {value}')
    if args.workers < 0:
        parser.error(f'--workers must be >= 0, got {args.workers}')
    if args.output.exists() and not args.output.is_dir():
        parser.error(f'--output must be a folder, got {args.output}')
    if args.checkpoint is None:
        for name in ('model', 'data_dir', 'num_classes', 'img_size', 'max_images'):
            if getattr(args, name) is not None:
                parser.error(f'--{name.replace("_", "-")} is for --checkpoint, which is not given')
        return
    if 5 not in args.figures:
        parser.error(f'--checkpoint is for Figure 5, which --figures {" ".join(map(str, args.figures))} leaves out')
    for name in ('model', 'data_dir'):
        if getattr(args, name) is None:
            parser.error(f'--checkpoint needs --{name.replace("_", "-")}')
    from timm.models import is_model

    if not is_model(args.model):
        parser.error(f'--model must be a model that timm knows, got {args.model!r}')
    for path in args.checkpoint:
        if not path.is_file():
            parser.error(f'--checkpoint must be a file, got {path}')
    if not args.data_dir.is_dir():
        parser.error(f'--data-dir must be a folder of images, got {args.data_dir}')


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the figures that the command line asks for, and figures.json."""
    parser = make_parser()
    args = parser.parse_args(argv)
    check_arguments(parser, args)
    require_demo_extra(parser.prog)

    makers: dict[int, Callable[[], Drawn]] = {1: figure1, 2: figure2, 3: figure3, 4: figure4, 5: figure5_digits}
    if args.checkpoint is not None:
        makers[5] = lambda: figure5_checkpoints(args)
    numbers: Numbers = {}
    for number in sorted(set(args.figures)):
        start = time.perf_counter()
        figure, numbers[f'figure{number}'] = makers[number]()
        path = args.output / f'figure{number}.png'
        save_figure(figure, path)
        print(f'{path} ({time.perf_counter() - start:.1f} s)', flush=True)
    write_json(args.output / 'figures.json', numbers)
    print(args.output / 'figures.json')
    return 0


if __name__ == '__main__':
    sys.exit(main())
