"""The first samples of a training's loader."""

import argparse

from timm.utils import random_seed
from tqdm import tqdm

from ..mixing import Mixing
from ..trainer.augmentation import check_augmentation
from .images import class_names, data_config_of, load_images, make_loader
from .record import RecordingMixup, Sample, recorded_samples


def record_samples(args: argparse.Namespace, mixing: Mixing, seed: int, rows: int) -> tuple[list[Sample], str]:
    """The first samples that a training with these arguments delivers, but for batches of two and another seed.

    Args:
        args: training's, resolved.
        mixing: training's.
        seed: of all that is drawn.
        rows: number of samples.

    Returns:
        The samples, and the mixer in words.

    Raises:
        WrongArguments: there are no such images.
        ValueError: an option is wrong; the message names it.
    """
    check_augmentation(args)
    data_config = data_config_of(args)
    dataset = load_images(args)
    names = class_names(dataset)
    mixer = mixing.mixer(RecordingMixup, max(args.num_classes or 1, len(names) or 1000))
    loader = make_loader(dataset, args, data_config, mixer)
    random_seed(seed)
    delivered = recorded_samples(loader, mixer, names)
    samples = [next(delivered) for _ in tqdm(range(rows), unit='row', leave=False)]
    return samples, repr(mixer).replace(RecordingMixup.__name__, 'FastCollateMixup')
