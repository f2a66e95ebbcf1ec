"""The recipes that are this project's own: a reason on every line, and every setting known to the script."""

import re

import pytest
import yaml

from train_patch.recipes.reader import find_recipe
from train_patch.trainer.arguments import parse_arguments

OWN = ['digits', 'fashion_mnist', 'fashion_mnist_1000']


@pytest.fixture(params=OWN)
def recipe(request):
    return find_recipe(request.param)


def test_every_line_has_a_reason(recipe):
    lines = recipe.read_text().splitlines()
    settings = [line for line in lines if line.strip() and not line.startswith('#')]
    assert len(settings) == len(yaml.safe_load(recipe.read_text()))
    assert [line for line in settings if not re.search(r'  # \w.{3,}', line)] == []


def test_the_script_takes_every_setting(recipe):
    settings = yaml.safe_load(recipe.read_text())
    parsed = vars(parse_arguments(['-c', str(recipe), '--data-dir', 'somewhere', '--mix-mode', 'gmix'])[0])
    assert {key: parsed[key] for key in settings} == settings
    # section 5 of the paper: α of GMix
    assert (parsed['mixup'], parsed['cutmix']) == (0, {'imagenet': 1, 'cifar100': 0.5}[settings['mix_preset']])
