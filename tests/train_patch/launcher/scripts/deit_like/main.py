"""A training script of the shape of DeiT's: argparse, Mixup by keywords, the loss chosen by --mixup, DDP, --resume."""

import argparse
import os
import random
import sys

import numpy as np
import torch
from datasets import build_dataset
from engine import SoftTargetCrossEntropy, train_one_epoch
from timm.data import Mixup
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler


def get_args_parser():
    parser = argparse.ArgumentParser('training', add_help=False)
    parser.add_argument('--data-path', help='not read: the images are made')
    parser.add_argument('--model', help='not looked at: it is one layer')
    parser.add_argument('--epochs', type=int, default=1)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--input-size', type=int, default=16)
    parser.add_argument('--mixup', type=float, default=0.8, help='mixup alpha, mixup enabled if > 0.')
    parser.add_argument('--cutmix', type=float, default=1.0, help='cutmix alpha, cutmix enabled if > 0.')
    parser.add_argument('--mixup-prob', type=float, default=1.0)
    parser.add_argument('--mixup-mode', default='batch')
    parser.add_argument('--smoothing', type=float, default=0.1)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--resume', default='')
    parser.add_argument('--eval', action='store_true')
    parser.add_argument('--fine-tune', action='store_true')
    parser.add_argument('--output')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def main(args):
    rank, distributed = int(os.environ.get('RANK', 0)), 'RANK' in os.environ
    if distributed:
        torch.distributed.init_process_group('gloo')
    torch.manual_seed(args.seed + rank)
    np.random.seed(args.seed + rank)
    random.seed(args.seed + rank)
    dataset, classes = build_dataset(32, args.input_size)
    sampler = DistributedSampler(dataset, shuffle=False) if distributed else None
    loader = DataLoader(dataset, args.batch_size, sampler=sampler)
    mixup_fn, mixup_active = None, args.mixup > 0 or args.cutmix > 0
    for _ in range(2 if args.fine_tune else 1):
        if mixup_active:
            mixup_fn = Mixup(
                mixup_alpha=args.mixup, cutmix_alpha=args.cutmix, cutmix_minmax=None, prob=args.mixup_prob,
                switch_prob=0.5, mode=args.mixup_mode, label_smoothing=args.smoothing, num_classes=classes,
            )  # fmt: skip
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * args.input_size**2, classes))
    model_without_ddp = model
    if distributed:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    criterion = SoftTargetCrossEntropy() if mixup_active else torch.nn.CrossEntropyLoss()
    first = 0
    if args.resume:
        saved = torch.load(args.resume)
        model_without_ddp.load_state_dict(saved['model'])
        first = saved['epoch'] + 1
    if args.eval:
        return
    batches = []
    for _ in range(first, args.epochs):
        batches += train_one_epoch(model, criterion, loader, optimizer, mixup_fn)
    if args.output:
        torch.save({'model': model_without_ddp.state_dict(), 'epoch': args.epochs - 1}, f'{args.output}/last.pt')
        about = {
            'argv': sys.argv, 'path': sys.path[0], 'name': __name__, 'file': __file__, 'args': vars(args),
            'first': first, 'criterion': type(criterion).__name__, 'mixer': repr(mixup_fn),
        }  # fmt: skip
        torch.save({'batches': batches, **about}, f'{args.output}/record{rank}.pt')


if __name__ == '__main__':
    parser = argparse.ArgumentParser('training script', parents=[get_args_parser()])
    main(parser.parse_args())
