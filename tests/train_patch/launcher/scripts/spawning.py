"""A training script that starts its processes itself and builds the mixer in each of them."""

import argparse

import torch
from timm.data import Mixup
from torch.nn.parallel import DistributedDataParallel


def work(rank, args):
    meeting = f'file://{args.output}/meeting'
    torch.distributed.init_process_group('gloo', init_method=meeting, rank=rank, world_size=args.processes)
    model = DistributedDataParallel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 5)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    mixup_fn = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5) if args.mixup and rank < args.mixing else None
    samples, targets = torch.randn(8, 3, 16, 16), torch.arange(8) % 5
    given = samples.clone(), targets
    if mixup_fn is not None:
        samples, targets = mixup_fn(samples, targets)
    loss = torch.nn.functional.cross_entropy(model(samples), targets)
    loss.backward()
    optimizer.step()
    torch.save({'batches': [(*given, samples, targets, loss.item())]}, f'{args.output}/record{rank}.pt')
    torch.distributed.destroy_process_group()  # whose threads may abort a Python that ends before them


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--mixup', type=float, default=0.8)
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--mixing', type=int, default=2, help='processes that mix')
    parser.add_argument('--start-method', default='spawn')
    parser.add_argument('--output')
    args = parser.parse_args()
    torch.multiprocessing.start_processes(work, args=(args,), nprocs=args.processes, start_method=args.start_method)
