"""The examples of docs/other_trainers.md, as written, with the libraries that are installed.

Nothing of a trainer is replaced: hooks on the network see the images that it is given and the gradient that comes back.
"""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

DOCUMENT = Path(__file__).parents[2] / 'docs' / 'other_trainers.md'
# heading → the library of its example
EXAMPLES = {
    'A plain loop': 'torch',
    'A plain loop that mixes in the loader': 'torch',
    'A loop that mixes by hand': 'torch',
    'accelerate': 'accelerate',
    'Lightning': 'lightning',
    "Hugging Face's Trainer": 'transformers',
    'Composer': 'composer',
    'fastai': 'fastai',
}
CLASSES = 10
SMOOTHING = 0.1


def code_under(heading):
    """The Python block in the section with that heading."""
    section = DOCUMENT.read_text(encoding='utf-8').split(f'# {heading}\n', 1)[1].split('\n## ')[0]
    (block,) = re.findall(r'^```python\n(.*?)^```', section, re.M | re.S)
    return block


class Watch:
    """The images of every forward pass in training and in evaluation, and in training the targets of the loss."""

    def __init__(self):
        self.training, self.evaluation, self.targets = [], [], []

    def __call__(self, module, inputs, output):
        if isinstance(module, nn.Conv2d):
            (self.training if module.training else self.evaluation).append(inputs[0].detach().clone())
        elif isinstance(module, nn.Linear) and module.out_features == CLASSES and output.requires_grad:
            logits = output.detach().clone()
            output.register_hook(lambda gradient: self.solve(logits, gradient))

    def solve(self, logits, gradient):
        """A mean cross entropy's gradient is (softmax − target) / B, which gives away the target."""
        self.targets.append(logits.softmax(1) - len(logits) * gradient)


@pytest.fixture(scope='module', params=EXAMPLES)
def run(request, tmp_path_factory):
    """What was seen while the opening example and then another one ran."""
    library = EXAMPLES[request.param]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f'{library} is not installed')
    watch, namespace = Watch(), {'__name__': 'example'}
    torch.manual_seed(0)
    np.random.seed(0)
    hook = register_module_forward_hook(watch)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path_factory.mktemp('example'))
            exec(code_under('Other trainers'), namespace)
            train_set, val_set = namespace['train_set'].tensors, namespace['val_set'].tensors
            exec(code_under(request.param), namespace)
    finally:
        hook.remove()
    return SimpleNamespace(train_set=train_set, val_set=val_set, **vars(watch))


def test_every_example_of_the_document_is_run():
    sections = DOCUMENT.read_text(encoding='utf-8').split('\n## ')[1:]
    assert [section.split('\n')[0] for section in sections if '```python' in section] == list(EXAMPLES)


def known(images, originals):
    """Which of the images are among the originals, up to the rounding of uint8."""
    return (torch.cdist(images.flatten(1), originals.flatten(1), p=float('inf')) < 0.01).any(1)


def test_images_are_mixed_in_training(run):
    # a λ near 1 leaves a batch as it was, now and then
    assert known(torch.cat(run.training), run.train_set[0]).float().mean() < 0.5


def test_images_are_not_mixed_in_evaluation(run):
    assert known(torch.cat(run.evaluation), run.val_set[0]).all()


def test_the_loss_has_the_soft_targets_of_the_images_that_were_mixed(run):
    """With one mask a batch, a pair's sum is that of two digits, which names them."""
    digits, labels = run.train_set
    one_hot = nn.functional.one_hot(labels, CLASSES) * (1 - SMOOTHING) + SMOOTHING / CLASSES
    i, j = torch.triu_indices(len(digits), len(digits))
    sums, targets_of_sums = (digits[i] + digits[j]).flatten(1), one_hot[i] + one_hot[j]
    assert len(run.targets) == len(run.training)
    soft = 0
    for images, targets in zip(run.training, run.targets, strict=True):
        distance, nearest = torch.cdist((images + images.flip(0)).flatten(1), sums).min(1)
        assert distance.max() < 0.05
        torch.testing.assert_close(targets + targets.flip(0), targets_of_sums[nearest], rtol=0, atol=1e-4)
        torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)), rtol=0, atol=1e-4)
        soft += int((targets.topk(2, 1).values[:, 1] > 0.05).sum())
    assert soft > 0.2 * sum(map(len, run.targets))
