"""A training script for `python -m packaged.train`: relative imports, mixing in loader workers."""

import argparse
import sys

import numpy as np
import torch

from . import FastCollateMixup
from .mixing import Collate, Turns


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, (3, 16, 16), dtype=np.uint8), index % 5


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--output')
    parser.add_argument('--start-method')
    args = parser.parse_args()
    arguments = dict(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5)
    collate = Turns(FastCollateMixup(**arguments), Collate(**arguments))
    loader = torch.utils.data.DataLoader(
        Images(), 8, collate_fn=collate, num_workers=1, multiprocessing_context=args.start_method
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    batches = [[], []]
    for number, (samples, targets, *count) in enumerate(loader):
        loss = torch.nn.functional.cross_entropy(model(samples.float()), targets)
        loss.backward()
        optimizer.step()
        given = [Images()[index] for index in range(8 * number, 8 * number + 8)]
        before, labels = torch.tensor(np.stack([image for image, _ in given])), torch.tensor([y for _, y in given])
        batches[len(count)].append((before, labels, samples, targets, loss.item()))
    package = sys.modules['__main__'].__package__
    torch.save({'batches': batches[0], 'of_the_subclass': batches[1], 'package': package}, f'{args.output}/record0.pt')
