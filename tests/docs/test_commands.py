"""The commands of README and docs, as written, each as far as it goes here.

hmix-preview draws, hmix-compare lists its launch lines (`--dry-run`), and scripts of others are stood in for by scripts
of their shape, which train. What trains, measures or plots for long, or needs data that are not here, is held to the
parser and the checks of its command. What is not run at all stands in `NOT_RUN`, with the reason.
"""

import configparser
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from torch.distributed.run import get_args_parser

from train_patch.data.digits import digits_folder
from train_patch.recipes.published import PAPER_MODES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
LAUNCHER = ROOT / 'tests' / 'train_patch' / 'launcher'

NOT_RUN = {
    '[ -d .venv ]': 'looks whether there is an environment',
    'python3 -m venv .venv': 'makes one; .ci/run does',
    '. .venv/bin/activate': 'enters it',
    'pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu': "from PyTorch's own index",
    'python -m pytest -q -n 2 --dist worksteal': 'these tests',
    '.venv/bin/python -m pytest -q -n 2 --dist worksteal': 'these tests',
    '.venv/bin/python -m pytest -m slow': 'more of them',
    'python -m train_patch.data.subset torch/fashion_mnist fashion_mnist_1000 --data-dir data --per-class 100': (
        'needs 60,000 images; test_subset.py makes a smaller one'
    ),
    'accelerate launch': 'a name for a way to start processes, without a script',
    'hmix-compare --table study': 'reads runs; test_table.py makes some',
    'hmix-compare --table comparison/digits output/train': 'the same',
    'hmix-compare --table comparison/cifar100_resnet56 comparison/cifar100_wrn28_2 --format latex': 'the same',
    'python tests/soak.py': 'kills training a hundred times',
    'python tests/mutate.py hmix_timm/blend --sample 20 --seed 0': 'runs tests twenty times, and needs cosmic-ray',
}
"""Command → why not."""

PROGRAM = r'(?:\.venv/bin/)?(?:hmix-[a-z]+|python3?|pip|torchrun|pytest|accelerate|ruff|mypy)'
FENCED = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)


def blocks(page, *languages):
    """The contents of a page's fenced blocks in any of these languages."""
    return [code for language, code in FENCED.findall(page.read_text(encoding='utf-8')) if language in languages]


def simple_commands(line):
    """The words of each command of a shell line, without the operators between them."""
    commands = [[]]
    words = shlex.shlex(line, posix=True, punctuation_chars='&|;')
    words.whitespace_split = True
    for word in words:
        if set(word) <= set('&|;'):
            commands.append([])
        elif word != '…':
            commands[-1].append(word)
    return commands


def commands_of(page):
    """All commands of a page, as lists of words: from shell blocks, and those with arguments in its sentences."""
    text = page.read_text(encoding='utf-8')
    lines = '\n'.join(blocks(page, 'sh', 'bash', 'shell', 'console', '')).replace('\\\n', ' ').splitlines()
    sentences = FENCED.sub('', text)
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', sentences)]
    lines += [line for line in spans + sentences.splitlines() if re.match(rf' *{PROGRAM} +[^ ]', line)]
    return [command for line in lines if line.strip() for command in simple_commands(line)]


COMMANDS = list(dict.fromkeys(' '.join(command) for page in PAGES for command in commands_of(page)))


@pytest.fixture(scope='module')
def folder(tmp_path_factory, image_folder):
    """Where the commands are called: the files that they name are there, and two images of each class as `imagenet`."""
    root = tmp_path_factory.mktemp('commands')
    for image in image_folder.glob('*/*/[01].jpg'):
        place = root / 'imagenet' / image.relative_to(image_folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, place)
    for place in ('path/to', 'path/to/deit'):
        shutil.copytree(LAUNCHER / 'scripts' / 'deit_like', root / place)
    (root / 'path/to/timm').mkdir()
    shutil.copy(LAUNCHER / 'timm_like.py', root / 'path/to/timm/train.py')
    (root / 'package').mkdir()
    (root / 'package' / 'module.py').write_text(
        'import torch\nfrom timm.data import Mixup\nMixup(num_classes=5)(torch.ones(2, 3, 8, 8), torch.arange(2))\n'
    )
    (root / 'path/to/vision').mkdir()
    (root / 'path/to/vision/transforms.py').write_text(
        (LAUNCHER / 'scripts' / 'mixing' / 'copied.py').read_text() + '\n\nRandomCutMix = RandomMixUp\n'
    )
    (root / 'path/to/vision/train.py').write_text(
        'import sys\nimport torch\nimport transforms\nfrom torchvision.transforms import v2\n'
        "kind = v2.MixUp if '--use-v2' in sys.argv else transforms.RandomMixUp\n"
        'mixer = kind(num_classes=5)\n'
        'for _ in range(64):  # the copy mixes half of its batches\n'
        '    mixer(torch.ones(2, 3, 8, 8), torch.arange(2))\n'
    )
    (root / 'my_masks.py').write_text('\n'.join(blocks(ROOT / 'docs' / 'your_own_mask.md', 'python')))
    return root


class Commands:
    """What stands for each program, called with the words behind its name."""

    def __init__(self, processes, folder):
        self.processes, self.folder = processes, folder
        self.programs = {
            'hmix-preview': self.preview,
            'hmix-compare': self.compare,
            'hmix-train': self.train,
            'hmix-bench': lambda words: self.check('bench', words),
            'hmix-figures': lambda words: self.check('figures', words),
            'torchrun': self.torchrun,
            'pip': self.pip,
        }
        self.environment = {}

    def __call__(self, words):
        while re.fullmatch(r'[A-Z_]+=.*', words[0]):
            name, _, value = words[0].partition('=')
            self.environment[name], words = value, words[1:]
        there = {'RECIPE': 'digits', 'DIGITS': str(digits_folder())}
        program = words[0].removeprefix('.venv/bin/')
        assert program in self.programs, f'{program}: nothing here stands for it, and NOT_RUN does not say why'
        self.programs[program]([there.get(word, word) for word in words[1:]])

    def module(self, module, words):
        return self.processes.module(module, *words, cwd=self.folder, **self.environment).passed()

    def check(self, program, words):
        self.processes.call(f'tests.docs.parsers:{program}', {'argv': words}, cwd=self.folder).passed()

    def preview(self, words):
        picture = self.module('train_patch.preview', words).stdout.splitlines()[-1]
        assert (self.folder / picture).read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'

    def compare(self, words):
        lines = self.module('train_patch.compare', [*words, '--dry-run']).stdout.splitlines()
        modes, seeds = (values_of(words, option) for option in ('--modes', '--seeds'))
        values = sum(len(value.split(',')) - 1 for value in values_of(words, '--vary'))
        varied = values * len({'hmix', 'gmix'} & {*modes})  # both have the options that the pages vary
        assert len(lines) == (len(modes or PAPER_MODES) + varied) * len(seeds or (0, 1, 2))

    def train(self, words):
        if '-m' not in words and not any(word.endswith(('/main.py', '/train.py')) for word in words):
            self.check('train', words)
            return
        done = self.module('train_patch', ['imagenet' if word == '/imagenet' else word for word in words])
        assert 'Mixing: ' in done.stdout + done.stderr

    def torchrun(self, words):
        """One process of those that it would start."""
        started = get_args_parser().parse_args(words)
        assert started.module and started.training_script == 'train_patch'
        self.train(started.training_script_args)

    def pip(self, words):
        """Installs nothing, but what it names is there to be installed."""
        *options, package = words[1:]
        place, extras = re.fullmatch(r'(.*?)(?:\[(.*)\])?', package).groups()
        assert words[0] == 'install' and set(options) <= {'-q', '-e'} and place in ('.', 'path/to/clone')
        setup = configparser.ConfigParser()
        setup.read(ROOT / 'setup.cfg')
        assert set(extras.split(',') if extras else ()) <= set(setup['options.extras_require'])


def values_of(words, option):
    """The words behind an option, up to the next one."""
    if option not in words:
        return []
    behind = words[words.index(option) + 1 :]
    return behind[: next((i for i, word in enumerate(behind) if word.startswith('-')), len(behind))]


@pytest.fixture
def commands(processes, folder):
    """`commands(words)`: does what a command does, as far as it goes here."""
    return Commands(processes, folder)


@pytest.mark.parametrize('command', [c for c in COMMANDS if c not in NOT_RUN], ids=lambda command: command[:60])
def test_a_command_does_what_it_says(commands, command):
    commands(command.split())


def test_commands_that_are_not_run_are_there_to_be_run():
    assert not set(NOT_RUN) - set(COMMANDS)
    named = [word for command in NOT_RUN for word in command.split() if word.endswith('.py')]
    assert [word for word in named if not (ROOT / word).is_file()] == []


@pytest.mark.parametrize('page', ['README.md', 'docs/index.md'])
def test_the_front_pages_code_runs(page):
    for code in blocks(ROOT / page, 'python'):
        exec(code, {'images': torch.ones(2, 3, 8, 8), 'labels': torch.arange(2)})


def test_the_code_of_every_page_is_run_by_a_test():
    with_code = {page.name for page in PAGES if blocks(page, 'python')}
    assert with_code == {'README.md', 'index.md', 'other_trainers.md', 'paper.md', 'your_own_mask.md'}
