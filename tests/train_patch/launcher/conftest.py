"""What the tests of the launcher share: a quick way to launch scripts, and an oracle for HMix."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parent / 'scripts'


@dataclass
class Launched:
    """A launch that has ended."""

    status: int
    log: str
    folder: Path

    def passed(self):
        assert self.status == 0, self.log[-3000:]
        return self

    def refused(self, status=2):
        """The last line of a launch that ended with one line and no traceback."""
        assert self.status == status, self.log[-3000:]
        assert 'Traceback' not in self.log, self.log[-3000:]
        return self.log.strip().splitlines()[-1]

    @property
    def mixing_lines(self):
        return [line.partition('Mixing: ')[2] for line in self.log.splitlines() if 'Mixing: ' in line]

    def record(self, rank=0):
        """What a script of `scripts/` saved of its run."""
        return torch.load(self.folder / f'record{rank}.pt', weights_only=False)


class Launches:
    """Launches scripts, one at a time, in processes of their own."""

    def __init__(self, processes, folder):
        self.processes = processes
        self.folder = folder
        self.count = 0

    def __call__(self, before, script, after='', cwd=None, plain=False, start_method=None, **environment):
        """Runs `hmix-train BEFORE SCRIPT AFTER`, or `python SCRIPT AFTER` if plain, in a folder of its own.

        `{folder}` in the arguments is that folder.
        """
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        words = [] if plain else shlex.split(before)
        words += [*shlex.split(str(script)), *shlex.split(after)]
        arguments = {'argv': [word.replace('{folder}', str(folder)) for word in words]}
        if not plain:
            arguments['start_method'] = start_method
        function = f'tests.train_patch.launcher.launching:{"run_plain" if plain else "launch"}'
        process = self.processes.call(function, arguments, cwd or folder, one_log=True, **environment).wait()
        return Launched(process.status, process.stdout, folder)

    def refusals(self, lines, cwd=None):
        """The logs of command lines that are refused by one line and status 2 before a script runs, in one process."""
        arguments = {'lines': [shlex.split(line) for line in lines]}
        function = 'tests.train_patch.launcher.launching:refuse'
        log = self.processes.call(function, arguments, cwd, one_log=True).passed().stdout
        said = re.findall(r'^hmix-train: error: (.*)\nended 2$', log, re.MULTILINE)
        assert len(said) == len(lines) == log.count('\n') / 2, log
        return said


@pytest.fixture(scope='session')
def launch(processes, tmp_path_factory):
    """Launches: `launch('--mix-mode hmix', script, 'its arguments')`."""
    return Launches(processes, tmp_path_factory.mktemp('launches'))


def mask_of(before, after):
    """The one mask M of a batch with after = M · before + (1 − M) · reversed(before), (H, W): least squares a pixel."""
    own = before.double().numpy()
    partner = own[::-1]
    difference = own - partner
    return (difference * (after.double().numpy() - partner)).sum((0, 1)) / (difference**2).sum((0, 1))


def label_weight(targets, labels, smoothing=0.1):
    """λ of a batch, from its soft targets."""
    classes = targets.shape[1]
    row = next(i for i in range(len(labels)) if labels[i] != labels[-1 - i])
    return float((targets[row, labels[row]] - smoothing / classes) / (1 - smoothing))


def check_hmix(batches, tolerance=1e-5):
    """Every batch is mixed by HMix: 0 in a box, one value λ < c < 1 outside, mean λ, which is the label weight."""
    assert batches
    boxes = 0
    for before, labels, after, targets, _ in batches:
        mask, lam = mask_of(before, after), label_weight(targets, labels)
        assert mask.mean() == pytest.approx(lam, abs=tolerance)
        if lam < 2 * tolerance:  # what is blended cannot be told from the box
            continue
        inside = abs(mask) < tolerance
        outside = mask[~inside]
        assert np.ptp(outside) < 2 * tolerance
        assert lam - tolerance < outside.mean() < 1 + tolerance
        if inside.any():
            rows, columns = np.where(inside.any(1))[0], np.where(inside.any(0))[0]
            assert inside.sum() == len(rows) * len(columns)
            assert outside.mean() > lam
            boxes += 1
    assert boxes
