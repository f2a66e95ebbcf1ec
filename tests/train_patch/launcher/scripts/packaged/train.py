"""A training script for `python -m packaged.train`: relative imports, mixing in loader workers."""

import argparse

import numpy as np
import torch
from timm.data import FastCollateMixup

from .mixing import Collate


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return np.random.default_rng(index).integers(0, 256, (3, 16, 16), dtype=np.uint8), index % 5


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--output')
    parser.add_argument('--start-method')
    parser.add_argument('--subclass', action='store_true')
    args = parser.parse_args()
    kind = Collate if args.subclass else FastCollateMixup
    collate = kind(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5)
    loader = torch.utils.data.DataLoader(
        Images(), 8, collate_fn=collate, num_workers=1, multiprocessing_context=args.start_method
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    batches = []
    for number, (samples, targets, *_) in enumerate(loader):
        loss = torch.nn.functional.cross_entropy(model(samples.float()), targets)
        loss.backward()
        optimizer.step()
        given = [Images()[index] for index in range(8 * number, 8 * number + 8)]
        before, labels = torch.tensor(np.stack([image for image, _ in given])), torch.tensor([y for _, y in given])
        batches.append((before, labels, samples, targets, loss.item()))
    torch.save({'batches': batches, 'package': __package__}, f'{args.output}/record0.pt')
