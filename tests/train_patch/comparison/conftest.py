"""What the tests of the comparison share: a recipe and a handful of real images, and ways to call the command."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from train_patch.compare import main
from train_patch.comparison.comparison import Run
from train_patch.comparison.request import build_parser, read_comparison

RECIPE = """
model: test_mambaout
num_classes: 2
input_size: [3, 32, 32]
no_aug: true
batch_size: 8
epochs: 2
warmup_epochs: 0
opt: adamw
lr: 2e-3          # text to YAML 1.1
workers: 1
device: cpu
"""


@pytest.fixture(scope='session')
def work(tmp_path_factory):
    """A folder with `recipe.yaml`, and `data/`: 16 zeros and ones to train on and 16 to validate."""
    root = tmp_path_factory.mktemp('compare')
    digits = load_digits(n_class=2)
    for label in (0, 1):
        for number, index in enumerate(np.flatnonzero(digits.target == label)[:16]):
            folder = root / 'data' / ('train' if number < 8 else 'validation') / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((digits.images[index] * 15).astype(np.uint8))
            image.resize((32, 32)).save(folder / f'{index}.png')
    (root / 'recipe.yaml').write_text(RECIPE)
    return root


@pytest.fixture(scope='session')
def arguments(work):
    """`arguments(output, *more)`: a command line on those images."""

    def make(output, *more):
        given = [str(work / 'recipe.yaml'), '--output', str(output), '--data-dir', str(work / 'data')]
        return given + list(map(str, more))

    return make


@pytest.fixture(scope='session')
def rows_of():
    """`rows_of(path)`: the rows of a table, read by nothing of the project."""

    def read(path):
        with path.open(newline='') as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def refused(capsys):
    """`refused(argv, status)`: the message that a command ends with."""

    def call(argv, status=2):
        try:
            assert main(list(map(str, argv))) == status
        except SystemExit as ended:  # argparse's
            assert ended.code == status
        return capsys.readouterr().err

    return call


@pytest.fixture(scope='session')
def plan():
    """`plan(argv)`: the comparison that a command line asks for."""

    def make(argv):
        return read_comparison(*build_parser().parse_known_args(list(map(str, argv))))

    return make


class StandIns:
    """Calls the command with a shell script in place of each training process.

    Args:
        arguments: the fixture.
        output: folder of the comparison.
    """

    modes = ('none', 'cutmix', 'hmix')
    train = 'printf "epoch,eval_top1\\n0,10\\n1,20\\n" > summary.csv'

    def __init__(self, arguments, output):
        self.arguments, self.output, self.scripts = arguments, output, {}

    def __call__(self, *more, **scripts):
        """Returns the exit status; `scripts`: mode → script, which runs in the run's folder."""
        self.scripts = scripts
        return main([*self.arguments(self.output, *more), '--modes', *self.modes, '--seeds', '7'])

    def command(self, run, environment):
        """What stands for `Run.command`."""
        setting = ['env', *(f'{name}={value}' for name, value in environment.items())]
        script = self.scripts.get(run.variant.name, self.train)
        return [*setting, 'sh', '-c', f'cd {run.folder} && echo "seed: 7" > args.yaml && {script}']

    def folder(self, mode):
        return self.output / mode / 'seed7'


@pytest.fixture
def call(arguments, tmp_path, monkeypatch):
    """A StandIns: `call(none='exit 1')` trains the modes none, cutmix and hmix, of which none fails."""
    stand_ins = StandIns(arguments, tmp_path / 'out')
    monkeypatch.setattr(Run, 'command', lambda run, environment: stand_ins.command(run, environment))
    return stand_ins
