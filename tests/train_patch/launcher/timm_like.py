"""A training script of the shape of timm's train.py, which is not in timm's wheel, for the launcher's tests.

It has what the launcher relies on and no more: the same top-level names, the same rule for building mixers, the same
way of turning them off, and `NaFlexMixup` imported inside `main()`. It records every batch it trains on as a line of
`batches.txt`: epoch, loss, whether the targets of the batch are mixed.
"""

import argparse
import dataclasses
import os

import torch
import yaml
from timm.data import FastCollateMixup, Mixup, create_dataset, create_loader, create_naflex_loader
from timm.loss import SoftTargetCrossEntropy
from timm.models import create_model
from timm.utils import random_seed, setup_default_logging


@dataclasses.dataclass
class Progress:
    epoch: 'int' = 0  # a type as text, which is looked up in the script's module


config_parser = argparse.ArgumentParser(add_help=False)
config_parser.add_argument('-c', '--config', default='')

parser = argparse.ArgumentParser(description='A script of the shape of timm train.py')
parser.add_argument('data', nargs='?')
parser.add_argument('--data-dir')
parser.add_argument('--model', default='test_resnet')
parser.add_argument('--num-classes', type=int, default=None)
parser.add_argument('--img-size', type=int, default=32)
parser.add_argument('--batch-size', '-b', type=int, default=8)
parser.add_argument('--workers', '-j', type=int, default=2)
parser.add_argument('--epochs', type=int, default=2)
parser.add_argument('--seed', type=int, default=42)
parser.add_argument('--device', default='cpu')
parser.add_argument('--output', default='output')
parser.add_argument('--experiment', default='run')
parser.add_argument('--no-prefetcher', action='store_true')
parser.add_argument('--naflex-loader', action='store_true')
parser.add_argument('--aug-splits', type=int, default=0)
parser.add_argument('--jsd-loss', action='store_true')
parser.add_argument('--no-aug', action='store_true')
parser.add_argument('--aa', default=None)
parser.add_argument('--mixup', type=float, default=0.0)
parser.add_argument('--cutmix', type=float, default=0.0)
parser.add_argument('--cutmix-minmax', type=float, nargs='+', default=None)
parser.add_argument('--mixup-prob', type=float, default=1.0)
parser.add_argument('--mixup-switch-prob', type=float, default=0.5)
parser.add_argument('--mixup-mode', default='batch')
parser.add_argument('--mixup-off-epoch', type=int, default=0)
parser.add_argument('--smoothing', type=float, default=0.1)


def _parse_args():
    known, remaining = config_parser.parse_known_args()
    if known.config:
        with open(known.config) as file:
            parser.set_defaults(**yaml.safe_load(file))
    args = parser.parse_args(remaining)
    return args, yaml.safe_dump(args.__dict__)


def main():
    setup_default_logging()
    args, args_text = _parse_args()
    args.prefetcher = not args.no_prefetcher
    random_seed(args.seed, 0)
    model = create_model(args.model, num_classes=args.num_classes)
    args.num_classes = model.num_classes
    dataset = create_dataset('', root=args.data_dir or args.data, split='train', is_training=True)
    mixup_args = dict(
        mixup_alpha=args.mixup,
        cutmix_alpha=args.cutmix,
        cutmix_minmax=args.cutmix_minmax,
        prob=args.mixup_prob,
        switch_prob=args.mixup_switch_prob,
        mode=args.mixup_mode,
        label_smoothing=args.smoothing,
        num_classes=args.num_classes,
    )
    mixup_active = args.mixup > 0 or args.cutmix > 0.0 or args.cutmix_minmax is not None
    collate_fn = mixup_fn = None
    loader_args = dict(
        batch_size=args.batch_size,
        is_training=True,
        use_prefetcher=args.prefetcher,
        num_workers=args.workers,
        device=torch.device(args.device),
    )
    if args.naflex_loader:
        if mixup_active:
            from timm.data import NaFlexMixup

            del mixup_args['mode'], mixup_args['cutmix_minmax']
            mixup_fn = NaFlexMixup(**mixup_args)
        loader = create_naflex_loader(
            dataset=dataset, train_seq_lens=[4, 9], patch_size=16, max_seq_len=9, mixup_fn=mixup_fn, **loader_args
        )
        mixup_fn = None
    else:
        if mixup_active:
            if args.prefetcher:
                collate_fn = FastCollateMixup(**mixup_args)
            else:
                mixup_fn = Mixup(**mixup_args)
        loader = create_loader(
            dataset,
            input_size=(3, args.img_size, args.img_size),
            collate_fn=collate_fn,
            no_aug=args.no_aug,
            auto_augment=args.aa,
            **loader_args,
        )
    loss_fn = SoftTargetCrossEntropy() if mixup_active else torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    folder = os.path.join(args.output, args.experiment)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'args.yaml'), 'w') as file:
        file.write(args_text)
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, folder, mixup_fn)


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, folder, mixup_fn):
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        if args.prefetcher and loader.mixup_enabled:
            loader.mixup_enabled = False
        elif mixup_fn is not None:
            mixup_fn.mixup_enabled = False
    with open(os.path.join(folder, 'batches.txt'), 'a') as file:
        for images, target in loader:
            if mixup_fn is not None:
                images, target = mixup_fn(images, target)
            mixed = False
            if target.ndim == 2:  # unmixed rows have one value above the smoothing's, mixed ones two
                mixed = bool(((target > target.min() + 1e-6).sum(1) > 1).any())
            if isinstance(images, dict):
                file.write(f'{epoch} {images["patches"].double().sum().item()!r} {mixed}\n')
                continue
            loss = loss_fn(model(images), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            file.write(f'{epoch} {loss.item()!r} {mixed}\n')


if __name__ == '__main__':
    main()
