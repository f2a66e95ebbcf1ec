"""Pictures of what mixing does to your images: `hmix-preview`, or `python -m train_patch.preview`.

    hmix-preview --mix-mode hmix                                          # two photographs
    hmix-preview --images digits --mix-mode gmix --mixup-mode elem
    hmix-preview --config recipe.yaml --data-dir /data/imagenet --mix-mode hmix --seed 7
    hmix-preview --grid mixup cutmix hmix gmix --lam 0.65 --hmix-ratio 0.5     # the paper's Figure 3

Images go through timm's training transform, `FastCollateMixup` and timm's loader, in batches of two: a row of the
picture is a sample as a training run with these arguments would get it. The mask is not worked out a second time: the
mixer is run again from the same random state on a white and a black image, and what comes out is the mask.
"""

import argparse
import copy
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.models import get_pretrained_cfg
from timm.utils import random_seed
from torch.utils.data import Dataset
from torchvision.transforms import Compose, RandomCrop, Resize

from hmix_timm.checks import check_choice, check_number
from hmix_timm.draws import numpy_seed
from hmix_timm.families import FAMILIES, PRESETS, make_slot
from hmix_timm.masks import Mask, Size, mixup_mask
from hmix_timm.mixup import MODES, FastCollateMixup
from hmix_timm.pictures import mix_grid, new_figure, require_demo_extra, save_figure
from hmix_timm.presets import mix_modes, mixer_arguments
from hmix_timm.scikit_images import photographs

IMAGES = ('photos', 'digits')
"""Images that come with scikit-learn."""

TIMM_DEFAULTS: dict[str, Any] = {
    'mixup': 0.0,
    'cutmix': 0.0,
    'cutmix_minmax': None,
    'mixup_prob': 1.0,
    'mixup_switch_prob': 0.5,
    'mixup_mode': 'batch',
    'smoothing': 0.1,
}
"""timm's mixing options and their defaults."""

ROW_PARAMETERS = {
    'mix_alpha': ('mixup', 'cutmix', 'stochastic', 'hmix', 'gmix'),
    'hmix_ratio': ('hmix',),
    'hmix_gamma': ('hmix',),
    'gmix_kernel': ('gmix',),
}
"""What refines --mix-mode, and for which modes."""

# a recipe's keys that change what the training loader delivers → the argument of timm's create_loader, and the value
# that timm's training script passes where a recipe says nothing
_LOADER_KEYS: dict[str, tuple[str, Any]] = {
    'no_aug': ('no_aug', False),
    'train_crop_mode': ('train_crop_mode', None),
    'scale': ('scale', None),
    'ratio': ('ratio', None),
    'hflip': ('hflip', 0.5),
    'vflip': ('vflip', 0.0),
    'color_jitter': ('color_jitter', 0.4),
    'color_jitter_prob': ('color_jitter_prob', None),
    'grayscale_prob': ('grayscale_prob', 0.0),
    'gaussian_blur_prob': ('gaussian_blur_prob', 0.0),
    'aa': ('auto_augment', None),
    'reprob': ('re_prob', 0.0),
    'remode': ('re_mode', 'pixel'),
    'recount': ('re_count', 1),
    'resplit': ('re_split', False),
}
_DATA_KEYS = ('input_size', 'img_size', 'in_chans', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
# what a loader would do that this one does not
_REFUSED_KEYS = ('naflex_loader', 'aug_splits', 'jsd_loss', 'train_img_sizes')


@dataclass(frozen=True, eq=False)
class Sample:
    """One row of the picture.

    Args:
        own: image i as it came to the mixer, (C, H, W) uint8.
        other: image j.
        labels: names of the classes of i and j.
        mask: the mask that was applied, (H, W) float32, to the nearest 1/255.
        weight: label weight of image i.
        mixed: the sample as the loader delivered it, normalization undone, (C, H, W) uint8.
    """

    own: np.ndarray
    other: np.ndarray
    labels: tuple[str, str]
    mask: np.ndarray
    weight: float
    mixed: np.ndarray


@dataclass(frozen=True, eq=False)
class Record:
    """What a `RecordingMixup` did to one batch of B samples, N of which it returned.

    Args:
        images: the samples as they came, B arrays (C, H, W) uint8.
        targets: their classes, B numbers.
        masks: the masks applied, (N, H, W) float32, to the nearest 1/255.
        weights: label weights of the samples' own classes, (N,) float32.
    """

    images: list[np.ndarray]
    targets: list[int]
    masks: np.ndarray
    weights: np.ndarray


class RecordingMixup(FastCollateMixup):
    """`FastCollateMixup` that remembers what it did to each batch, in `records`; for loaders without workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records: list[Record] = []

    def __call__(self, batch: Any, _: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes as `FastCollateMixup` does, from the same random numbers."""
        before = np.random.get_state()
        result = super().__call__(batch)
        np.random.set_state(before)
        # draws the same numbers once more, and so leaves the generator where mixing left it
        masks, weights = self._replay(len(batch), batch[0][0].shape[-2:])
        images = [torch.as_tensor(image).numpy().copy() for image, _ in batch]
        self.records.append(Record(images, [int(target) for _, target in batch], masks, weights))
        return result

    def _replay(self, batch_size: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Masks and label weights: what the mixer makes of white images with black partners and of two classes."""
        white = np.arange(batch_size) < (batch_size + 1) // 2
        probes = [(np.full((1, *size), 255 * w, dtype=np.uint8), int(not w)) for w in white]
        mixer = copy.copy(self)
        mixer.label_smoothing, mixer.num_classes = 0.0, 2
        images, targets = FastCollateMixup.__call__(mixer, probes)
        white = white[: len(images)]
        share_of_white = images[:, 0].numpy().astype(np.float32) / 255.0
        masks = np.where(white[:, None, None], share_of_white, 1.0 - share_of_white)
        return masks, np.where(white, targets[:, 0].numpy(), targets[:, 1].numpy())


class ScikitImages(Dataset):
    """Scikit-learn's photographs or digits as a data set for timm's loader, which sets `transform`."""

    def __init__(self, name: str, img_mode: str) -> None:
        if name == 'photos':
            self.arrays, self.targets, self.classes = list(photographs((320, 320))), [0, 1], ['flower', 'temple']
        else:
            from sklearn.datasets import load_digits

            digits = load_digits()
            self.arrays = [np.rint(image * (255 / 16)).astype(np.uint8) for image in digits.images]
            self.targets, self.classes = [int(t) for t in digits.target], [str(n) for n in range(10)]
        self.name, self.img_mode = name, img_mode
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.arrays[index])
        if self.name == 'digits':  # 8 × 8 pixels, enlarged as train_patch's folder of digits is
            image = image.resize((32, 32), Image.Resampling.BICUBIC)
        return self.transform(image.convert(self.img_mode)), self.targets[index]


def preview_samples(loader: Any, mixer: RecordingMixup, classes: Sequence[str] | None, rows: int) -> list[Sample]:
    """The first samples that a loader delivers, over as many epochs as that takes.

    Args:
        loader: timm's prefetching loader with `mixer` as its collate function, and without workers.
        mixer: as above.
        classes: names of the classes; None shows their numbers.
        rows: number of samples.
    """
    samples: list[Sample] = []
    # the loader works one batch ahead, so that records are counted, not taken from the end
    for number, (x, _) in enumerate(itertools.chain.from_iterable(itertools.repeat(loader))):
        delivered = (x * loader.std + loader.mean).round().clamp(0, 255).byte().numpy()
        record = mixer.records[number]
        last = len(record.images) - 1
        for i, mixed in enumerate(delivered):
            own, other = (classes[t] if classes else str(t) for t in (record.targets[i], record.targets[last - i]))
            samples.append(
                Sample(
                    own=record.images[i],
                    other=record.images[last - i],
                    labels=(own, other),
                    mask=record.masks[i],
                    weight=float(record.weights[i]),
                    mixed=mixed,
                )
            )
        if len(samples) >= rows:
            break
    return samples[:rows]


def draw_preview(samples: Sequence[Sample], title: str) -> Any:
    """A matplotlib `Figure` with a row for each sample: image i, image j, mask, mixed image and label weights."""
    figure = new_figure((9.2, 2.25 * len(samples) + 0.7))
    axes = figure.subplots(len(samples), 4, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    shown = None
    for row, sample in zip(axes, samples, strict=True):
        label_i, label_j = sample.labels
        row[0].imshow(to_rgb(sample.own))
        row[0].set_title(f'image i: {label_i}', fontsize=9)
        row[1].imshow(to_rgb(sample.other))
        row[1].set_title(f'image j: {label_j}', fontsize=9)
        shown = row[2].imshow(sample.mask, vmin=0.0, vmax=1.0, cmap='viridis')
        row[2].set_title('mask M', fontsize=9)
        row[3].imshow(to_rgb(sample.mixed))
        row[3].set_title(f"{sample.weight:.3f} '{label_i}' + {1.0 - sample.weight:.3f} '{label_j}'", fontsize=9)
    figure.colorbar(shown, ax=axes, fraction=0.015, pad=0.01, ticks=[0.0, 0.5, 1.0], label="M: image i's share")
    figure.suptitle(title, fontsize=9)
    return figure


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) uint8 → (H, W, 3) uint8 for showing; a grey image gets three equal channels."""
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


def grid_masks(modes: Sequence[str], lam: float, size: Size, options: dict[str, Any], seed: int) -> dict[str, Mask]:
    """A mask of each mode at the same λ and from the same seed, so that boxes and bumps have the same centre.

    Args:
        modes: some of `mix_modes()`.
        lam: λ.
        size: height and width in pixels.
        options: options of the families, by their names outside.
        seed: of numpy's generator, which is left as it was found.

    Returns:
        Title → mask.
    """
    masks: dict[str, Mask] = {}
    for mode in modes:
        title, drawn = _TITLES[mode], mode
        if mode == 'stochastic':
            with numpy_seed(seed):
                drawn = 'cutmix' if np.random.rand() < mixer_arguments(mode)['switch_prob'] else 'mixup'
            title = f'{title}\n({_TITLES[drawn]} drawn)'
        family = mix_modes()[drawn].family
        if family:
            own = {key: value for key, value in options.items() if key in FAMILIES[family].keywords}
            with numpy_seed(seed):
                masks[title], _ = make_slot(family, **own).draw(size, lam)
        else:
            masks[title] = mixup_mask(1.0 if drawn == 'none' else lam)
    return masks


_TITLES = {
    'none': 'No mixing',
    'mixup': 'Mixup',
    'cutmix': 'CutMix',
    'stochastic': 'Stochastic',
    'hmix': 'HMix',
    'gmix': 'GMix',
}


def make_parser() -> argparse.ArgumentParser:
    """The command's options; those of timm's training script have its names, meanings and defaults."""
    parser = argparse.ArgumentParser(
        prog='hmix-preview', description='Show what mixing does: mixed images, masks and label weights as one PNG.'
    )
    parser.add_argument('-o', '--output', type=Path, default=Path('preview.png'), metavar='PNG', help='(preview.png)')
    parser.add_argument('--rows', type=int, metavar='N', help='samples to show (default: 4)')
    parser.add_argument('--seed', type=int, default=42, metavar='S', help='random seed (default: 42)')
    parser.add_argument(
        '-c', '--config', '--recipe', dest='config', type=Path, metavar='YAML', help="training recipe in timm's format"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--data-dir', type=Path, metavar='DIR', help='image folder with a folder for each class')
    source.add_argument('--images', choices=IMAGES, help="scikit-learn's images (default: photos)")
    parser.add_argument('--train-split', metavar='NAME', help='split in the image folder (default: train)')
    parser.add_argument('--img-size', type=int, metavar='N', help="(default: the recipe's; 224, digits 32)")
    grid = parser.add_argument_group('Modes side by side on the same pair and the same λ')
    grid.add_argument(
        '--grid', nargs='+', choices=tuple(mix_modes()), metavar='MODE', help=', '.join(tuple(mix_modes()))
    )
    grid.add_argument('--lam', type=float, metavar='L', help='λ of the grid, 0..1 (default: 0.65)')
    # nothing has a default here, so that what stands on the command line can be told from what a recipe says
    mixing = parser.add_argument_group('Mixing', "a row of the paper's tables, or timm's options (default: hmix)")
    mixing.add_argument('--mix-mode', choices=tuple(mix_modes()))
    mixing.add_argument('--mix-preset', choices=PRESETS, help="the paper's parameters (default: imagenet)")
    mixing.add_argument('--mix-alpha', type=float, metavar='A', help="Beta parameter (default: preset's)")
    mixing.add_argument('--hmix-ratio', type=float, metavar='R', help="HMix's ratio, 0..1 (default: preset's)")
    mixing.add_argument('--hmix-gamma', type=float, metavar='G', help='draw the ratio from Beta(G, G) instead')
    mixing.add_argument(
        '--gmix-kernel',
        choices=FAMILIES['gmix'].keywords['gmix_kernel'].choices,
        help="GMix's Gaussian (default: reference)",
    )
    mixing.add_argument('--mixup', type=float, metavar='A', help="timm's Mixup alpha")
    mixing.add_argument('--cutmix', type=float, metavar='A', help="timm's CutMix alpha")
    mixing.add_argument('--cutmix-minmax', type=float, nargs=2, metavar=('MIN', 'MAX'), help="timm's box sides")
    mixing.add_argument('--mixup-prob', '--prob', dest='mixup_prob', type=float, metavar='P', help='(default: 1)')
    mixing.add_argument('--mixup-switch-prob', type=float, metavar='P', help="CutMix's probability (default: 0.5)")
    mixing.add_argument('--mixup-mode', choices=MODES, help='(default: batch)')
    mixing.add_argument('--smoothing', type=float, metavar='S', help='label smoothing (default: 0.1)')
    return parser


def read_recipe(path: Path | None) -> dict[str, Any]:
    """A YAML recipe as a dict; keys that do not change what a loader delivers are nobody's concern here.

    Raises:
        ValueError: the file is not there or is not a recipe, or it asks for what this command cannot show.
    """
    if path is None:
        return {}
    try:
        recipe = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f'--config must be a YAML file, got {path}: {error}') from error
    if not isinstance(recipe, dict):
        raise ValueError(f'--config must hold keys and values, got {path} with {type(recipe).__name__}')
    for key in _REFUSED_KEYS:
        if recipe.get(key):
            raise ValueError(f'{key} in {path} must be off: what it delivers is not what this command can show')
    return recipe


def resolve_mixing(typed: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments of the mixer, but for num_classes.

    The command line beats the recipe. With a mode, from either, timm's own mixup options are replaced as a whole, as in
    training; a recipe's parameters that were another mode's go with that mode.

    Args:
        typed: the mixing options that stand on the command line.
        recipe: a recipe; may be empty, and then the default is HMix.

    Raises:
        ValueError: an option is wrong or would be ignored, or the recipe does not mix.
    """
    values = {**TIMM_DEFAULTS, **{key: recipe[key] for key in TIMM_DEFAULTS if recipe.get(key) is not None}}
    values.update({key: typed[key] for key in TIMM_DEFAULTS if key in typed})
    arguments = {
        'mixup_alpha': values['mixup'],
        'cutmix_alpha': values['cutmix'],
        'cutmix_minmax': values['cutmix_minmax'],
        'prob': values['mixup_prob'],
        'switch_prob': values['mixup_switch_prob'],
        'mode': values['mixup_mode'],
        'label_smoothing': values['smoothing'],
    }
    timms = [key for key in ('mixup', 'cutmix', 'cutmix_minmax', 'mixup_switch_prob') if key in typed]
    mode = typed.get('mix_mode', recipe.get('mix_mode'))
    if mode is None and not recipe and not timms:
        mode = 'hmix'
    if mode is None:
        for key in ROW_PARAMETERS:
            if key in typed:
                raise ValueError(f'{_option(key)} needs --mix-mode ({", ".join(tuple(mix_modes()))})')
        if not values['mixup'] and not values['cutmix'] and values['cutmix_minmax'] is None:
            raise ValueError(
                f'nothing is mixed: the recipe does not, and --mix-mode ({", ".join(tuple(mix_modes()))}) is absent'
            )
        return arguments
    check_choice('mix_mode', mode, tuple(mix_modes()))
    if timms:
        raise ValueError(f'{_option(timms[0])} is replaced by --mix-mode {mode}: give one of them')
    row: dict[str, Any] = dict.fromkeys(ROW_PARAMETERS)
    if recipe.get('mix_mode', mode) == mode:
        row.update({key: recipe.get(key) for key, users in ROW_PARAMETERS.items() if mode in users})
    for key, users in ROW_PARAMETERS.items():
        if key in typed and mode not in users:
            raise ValueError(f'{_option(key)} is for --mix-mode {" or ".join(users)}, not for {mode}')
    for key, other in (('hmix_ratio', 'hmix_gamma'), ('hmix_gamma', 'hmix_ratio')):
        if key in typed:
            row[other] = None
    if 'hmix_ratio' in typed and 'hmix_gamma' in typed:
        raise ValueError('--hmix-gamma draws the ratio that --hmix-ratio fixes: give one of them')
    row.update({key: typed[key] for key in ROW_PARAMETERS if key in typed})
    paper = mixer_arguments(mode, typed.get('mix_preset', recipe.get('mix_preset', PRESETS[0])))
    if mode == 'none':
        return {**arguments, **paper}
    if row['mix_alpha'] is not None:
        check_number('--mix-alpha', row['mix_alpha'], open_low=True)
        for slot in ('mixup_alpha', 'cutmix_alpha'):
            if paper[slot]:
                paper[slot] = row['mix_alpha']
    slot_options = {key: row[key] for key in ('hmix_ratio', 'hmix_gamma', 'gmix_kernel') if row[key] is not None}
    return {**arguments, **paper, **slot_options}


_OPTIONS = {
    'mixup_alpha': '--mixup',
    'cutmix_alpha': '--cutmix',
    'prob': '--mixup-prob',
    'switch_prob': '--mixup-switch-prob',
    'mode': '--mixup-mode',
    'label_smoothing': '--smoothing',
}
"""Constructor argument → option, where the names differ."""


def _option(key: str) -> str:
    return '--' + key.replace('_', '-')


def make_dataset(args: argparse.Namespace, recipe: dict[str, Any], channels: int) -> tuple[Any, list[str] | None]:
    """The images and the names of their classes (None where the data set has none).

    Raises:
        ValueError: there is no such folder, or it holds no images.
    """
    img_mode = recipe.get('input_img_mode') or ('RGB' if channels == 3 else 'L')
    root = args.data_dir or (recipe.get('data_dir') if args.images is None else None)
    if root is None:
        if args.train_split is not None:
            raise ValueError('--train-split is for --data-dir, which is not given')
        scikit = ScikitImages(args.images or 'photos', img_mode)
        return scikit, scikit.classes
    split = args.train_split or recipe.get('train_split') or 'train'
    name = recipe.get('dataset') or ''
    if not name and not (Path(root) / split).is_dir():
        raise ValueError(
            f'--data-dir must be a folder with a folder {split}/ of class folders (--train-split), got {root}'
        )
    try:
        dataset = create_dataset(
            name,
            root=str(root),
            split=split,
            is_training=True,
            class_map=recipe.get('class_map') or '',
            input_img_mode=img_mode,
            batch_size=2,
        )
    except RuntimeError as error:
        raise ValueError(f'--data-dir must hold images, got {root}: {error}') from error
    indices = getattr(dataset.reader, 'class_to_idx', None)
    return dataset, sorted(indices, key=indices.get) if indices else None


def make_loader(dataset: Any, recipe: dict[str, Any], data_config: dict[str, Any], collate_fn: FastCollateMixup) -> Any:
    """timm's prefetching training loader of batches of two, as its training script makes it from the recipe."""
    kwargs = {}
    for key, (argument, default) in _LOADER_KEYS.items():
        kwargs[argument] = default if recipe.get(key) is None else recipe[key]
    interpolation = recipe.get('train_interpolation', 'random')
    if kwargs['no_aug'] or not interpolation:
        interpolation = data_config['interpolation']
    loader = create_loader(
        dataset,
        input_size=data_config['input_size'],
        batch_size=2,
        is_training=True,
        interpolation=interpolation,
        mean=data_config['mean'],
        std=data_config['std'],
        num_workers=0,
        persistent_workers=False,  # which older timm versions want of a loader without workers
        collate_fn=collate_fn,
        device=torch.device('cpu'),
        **kwargs,
    )
    if recipe.get('train_padding'):
        steps = dataset.transform.transforms
        if not isinstance(steps[0], RandomResizedCropAndInterpolation):
            raise ValueError('train_padding takes the place of the random resized crop, and the recipe has none')
        crop = RandomCrop(steps[0].size, padding=recipe['train_padding'])
        dataset.transform = Compose([Resize(steps[0].size), crop, *steps[1:]])
    return loader


def data_config_of(args: argparse.Namespace, recipe: dict[str, Any]) -> dict[str, Any]:
    """timm's data configuration for the recipe and its model, without building the model."""
    given = {key: recipe[key] for key in _DATA_KEYS if recipe.get(key) is not None}
    if args.img_size is not None:
        given.pop('input_size', None)
        given['img_size'] = args.img_size
    elif args.images == 'digits' and 'img_size' not in given and 'input_size' not in given:
        given['img_size'] = 32
    model_cfg: dict[str, Any] = {}
    if recipe.get('model'):
        found = get_pretrained_cfg(recipe['model'], allow_unregistered=True)
        if found is None:
            print(
                f"timm has no data configuration for model {recipe['model']!r}: taking timm's defaults", file=sys.stderr
            )
        else:
            model_cfg = found.to_dict()
    return resolve_data_config({'in_chans': 3, **given}, pretrained_cfg=model_cfg)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the picture that the command line asks for."""
    parser = make_parser()
    args = parser.parse_args(argv)
    for key, low in (('rows', 1), ('img_size', 1), ('seed', 0)):
        value = getattr(args, key)
        if value is not None and value < low:
            parser.error(f'{_option(key)} must be >= {low}, got {value}')
    mixing_keys = ('mix_mode', 'mix_preset', *ROW_PARAMETERS, *TIMM_DEFAULTS)
    typed = {key: getattr(args, key) for key in mixing_keys if getattr(args, key) is not None}
    require_demo_extra(parser.prog)
    try:
        recipe = read_recipe(args.config)
        if args.grid:
            figure = _grid_figure(args, typed, recipe)
        else:
            if args.lam is not None:
                raise ValueError('--lam is for --grid, which is not given')
            figure = _rows_figure(args, resolve_mixing(typed, recipe), recipe)
    except ValueError as error:
        parser.error(str(error))
    save_figure(figure, args.output)
    print(args.output)
    return 0


def _recorded(
    args: argparse.Namespace, recipe: dict[str, Any], mixing: dict[str, Any], rows: int
) -> tuple[Any, list[Sample]]:
    data_config = data_config_of(args, recipe)
    dataset, classes = make_dataset(args, recipe, data_config['input_size'][0])
    if len(dataset) < 2:
        raise ValueError(f'--data-dir must hold at least 2 images to mix, got {len(dataset)}')
    num_classes = max(recipe.get('num_classes') or 1, len(classes) if classes else 1000)
    try:
        mixer = RecordingMixup(**mixing, num_classes=num_classes)
    except ValueError as error:
        name, _, rest = str(error).partition(' ')
        raise ValueError(f'{_OPTIONS.get(name, _option(name))} {rest}') from error
    loader = make_loader(dataset, recipe, data_config, mixer)
    random_seed(args.seed)
    return mixer, preview_samples(loader, mixer, classes, rows)


def _rows_figure(args: argparse.Namespace, mixing: dict[str, Any], recipe: dict[str, Any]) -> Any:
    mixer, samples = _recorded(args, recipe, mixing, 4 if args.rows is None else args.rows)
    described = repr(mixer).replace('RecordingMixup', 'FastCollateMixup')
    print(f'Mixing: {described}')
    return draw_preview(samples, described)


def _grid_figure(args: argparse.Namespace, typed: dict[str, Any], recipe: dict[str, Any]) -> Any:
    used = ('mix_preset', 'hmix_ratio', 'hmix_gamma', 'gmix_kernel')
    for key in (*typed, *(['rows'] if args.rows is not None else [])):
        if key not in used:
            raise ValueError(f'{_option(key)} is not for --grid, which shows one pair with every mode at one λ')
    if 'hmix_ratio' in typed and 'hmix_gamma' in typed:
        raise ValueError('--hmix-gamma draws the ratio that --hmix-ratio fixes: give one of them')
    lam = 0.65 if args.lam is None else args.lam
    check_number('--lam', lam, high=1.0)
    given = {key: recipe[key] for key in used if recipe.get(key) is not None}
    if 'hmix_ratio' in typed:
        given.pop('hmix_gamma', None)
    given.update(typed)
    given.setdefault('gmix_kernel', 'reference')
    preset = given.pop('mix_preset', PRESETS[0])
    if 'hmix_gamma' not in given:
        given.setdefault('hmix_ratio', mixer_arguments('hmix', preset)['hmix_ratio'])
    _, samples = _recorded(args, recipe, mixer_arguments('none'), rows=1)
    own, other = to_rgb(samples[0].own), to_rgb(samples[0].other)
    details = [f'λ = {lam:g}']
    if 'hmix' in args.grid:
        r = f'r = {given["hmix_ratio"]:g}' if 'hmix_ratio' in given else f'γ = {given["hmix_gamma"]:g}'
        details.append(f'HMix with {r}')
    if 'gmix' in args.grid:
        details.append(f'GMix with the {given["gmix_kernel"]} kernel')
    size = own.shape[0], own.shape[1]
    return mix_grid(own, other, grid_masks(args.grid, lam, size, given, args.seed), ', '.join(details))


if __name__ == '__main__':
    sys.exit(main())
