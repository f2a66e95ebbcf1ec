"""The training loop, which keeps what the mixer was given and what it returned."""

import torch
from timm.data import Mixup


def train_one_epoch(model, criterion, loader, optimizer, mixup_fn: Mixup | None):
    batches = []
    for samples, targets in loader:
        given = samples.clone(), targets
        if mixup_fn is not None:
            samples, targets = mixup_fn(samples, targets)
        loss = criterion(model(samples), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batches.append((*given, samples.clone(), targets, loss.item()))
    return batches


class SoftTargetCrossEntropy(torch.nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * torch.nn.functional.log_softmax(x, dim=-1), dim=-1).mean()
