"""A training script of the shape of Swin's: a configuration with --opts, the mixer built in a package of its own."""

import argparse

import torch
from config import get_config
from data import build_loader

if __name__ == '__main__':
    parser = argparse.ArgumentParser('training and evaluation', add_help=False)
    parser.add_argument('--opts', default=[], nargs='+')
    parser.add_argument('--local_rank', type=int, default=0)
    args, unparsed = parser.parse_known_args()
    config = get_config(args.opts)
    loader, mixup_fn = build_loader(config)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, config.MODEL.NUM_CLASSES))
    optimizer = torch.optim.AdamW(model.parameters())
    batches = []
    for samples, targets in loader:
        given = samples.clone(), targets
        if mixup_fn is not None:
            samples, targets = mixup_fn(samples, targets)
        loss = torch.nn.functional.cross_entropy(model(samples), targets)
        loss.backward()
        optimizer.step()
        batches.append((*given, samples.clone(), targets, loss.item()))
    if config.OUTPUT:
        torch.save({'batches': batches, 'args': vars(args)}, f'{config.OUTPUT}/record0.pt')
