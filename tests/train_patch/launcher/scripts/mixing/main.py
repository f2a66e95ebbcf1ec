"""A training script whose way to mix is chosen by name; it keeps what the mixer was given and what it returned."""

import argparse
import sys

import torch
import ways
from torch.utils.data import DataLoader, TensorDataset

if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--way', default='timms')
    parser.add_argument('--mixup', type=float, default=0.8)
    parser.add_argument('--mode', default='batch')
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--output')
    parser.add_argument('--start-method')
    args = parser.parse_args()
    torch.manual_seed(0)
    ways.np.random.seed(0)
    collate = getattr(ways, f'collate_{args.way}') if args.start_method else None
    labels = torch.arange(32) % 5
    images = torch.randint(256, (32, 3, 16, 16), dtype=torch.uint8) if collate else torch.randn(32, 3, 16, 16)
    loader = DataLoader(
        TensorDataset(images, labels),
        8,
        collate_fn=collate and collate(args),
        num_workers=bool(collate),
        multiprocessing_context=args.start_method,
    )
    mix = None if collate else getattr(ways, args.way)(args)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    batches, steps = [], 0
    for epoch in range(args.epochs):
        for number, (samples, targets) in enumerate(loader):
            given = images[8 * number : 8 * number + 8], labels[8 * number : 8 * number + 8]
            if mix is not None:
                try:
                    samples, targets = mix(samples.clone(), targets, epoch)
                except Exception as error:  # as long runs do, to survive a broken batch
                    print('skipped:', error, file=sys.stderr)
                    continue
            loss = torch.nn.functional.cross_entropy(model(samples.float()), targets)
            loss.backward()
            optimizer.step()
            steps += 1
            if targets.dtype.is_floating_point:
                batches.append((*given, samples.detach(), targets, loss.item()))
    torch.save({'batches': batches, 'steps': steps}, f'{args.output}/record0.pt')
