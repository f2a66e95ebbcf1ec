"""Kills training at random moments, many times, and checks the files that are left; run by hand, not by pytest.

    python tests/soak.py                                     # 100 kills, about an hour on two busy cores
    python tests/soak.py --kills 20 --seed 1 --only gloo

Three ways to train take turns: the project's own script, hmix-compare, and the script on two processes under torchrun.
Each is started, killed and started again by the same command. A kill is one of

    all     SIGKILL to every process of the run at once, as when a machine goes down
    one     SIGKILL to one process of it, whichever: a loader worker, a rank, the command itself
    asked   SIGTERM or Ctrl-C to the command

After each, everything must have ended by itself within five minutes, and every `summary.csv` must hold each epoch once,
from the first one on, with the values of an unbroken run. A run that comes to its end must have all of that
run's table, and the next kills get a new folder. Seed and number of kills are those of the command line; when a kill
comes is drawn in epochs and in parts of an epoch, so that a busy machine does not change the kills.

Exit status: 0, or 1 after the first thing that was not as it should be; its folder is kept then, and named.
Needs Linux: processes are looked up in /proc.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 12
END_SECONDS = 300
MARK = 'HMIX_SOAK'

RECIPE = f"""
model: test_resnet
num_classes: 4
input_size: [3, 32, 32]
batch_size: 8
epochs: {EPOCHS}
warmup_epochs: 1
opt: adamw
lr: 0.002
aa: rand-m9-mstd0.5
reprob: 0.3
model_ema: true
model_ema_decay: 0.9
checkpoint_hist: 2
log_interval: 1
workers: 1
device: cpu
"""


class NotAsItShouldBe(Exception):
    """A mistake in a run that was killed and resumed."""


def write_images(folder):
    """Handwritten digits as an image folder: 4 classes, 8 images of each to train on and 4 to validate."""
    digits = load_digits(n_class=4)
    for label in range(4):
        for number, index in enumerate(np.flatnonzero(digits.target == label)[:12]):
            path = folder / ('train' if number < 8 else 'validation') / str(label) / f'{number}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[index] * 15).astype(np.uint8)).resize((32, 32)).save(path)


@dataclass(frozen=True)
class Way:
    """A way to train.

    Args:
        command: starts it, and starts it again.
        tables: the `summary.csv` of each of its runs, in its folder.
    """

    command: list
    tables: list


def ways(work):
    """Name → way to train on the images in a folder; `{folder}` stands for its own."""
    data = ['--data-dir', str(work / 'data')]
    own = ['-m', 'train_patch', '-c', str(work / 'recipe.yaml'), *data, '--mix-mode', 'hmix']
    own += ['--output', '{folder}', '--experiment', 'run', '--resume', 'auto']
    compared = ['-m', 'train_patch.compare', str(work / 'recipe.yaml'), *data]
    compared += ['--modes', 'none', 'gmix', '--seeds', '0', '--jobs', '2', '--output', '{folder}']
    two = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', *own, '-b', '4']
    return {
        'script': Way(own, ['run/summary.csv']),
        'compare': Way(compared, ['none/seed0/summary.csv', 'gmix/seed0/summary.csv']),
        'gloo': Way(two, ['run/summary.csv']),
    }


class Started:
    """A way to train that was started into a folder, with all the processes that this leads to."""

    def __init__(self, way, folder):
        self.way, self.folder = way, folder
        self.mark = uuid.uuid4().hex
        self.log = folder / 'soak.log'
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, *(word.replace('{folder}', str(folder)) for word in way.command)]
        environment = {**os.environ, MARK: self.mark, 'OMP_NUM_THREADS': '1'}
        with self.log.open('a') as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def living(self):
        """Its processes that have not ended, found by the mark in their environment."""
        found = []
        for path in Path('/proc').iterdir():
            try:
                if path.name.isdecimal() and self.mark.encode() in (path / 'environ').read_bytes():
                    found.append(int(path.name))
            except OSError:  # it has ended, or is not ours
                continue
        return found

    def rows(self):
        """The number of rows of all its tables."""
        return sum(len(read_rows(self.folder / table)) for table in self.way.tables)

    def send(self, number, pids):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill_all(self):
        while living := self.living():
            self.send(signal.SIGSTOP, living)  # so that none of them sees another one end
            self.send(signal.SIGKILL, living)
            self.process.poll()
            time.sleep(0.01)

    def wait(self):
        """Waits until nothing of it is left; returns the exit status."""
        deadline = time.monotonic() + END_SECONDS
        while self.process.poll() is None or self.living():
            if time.monotonic() > deadline:
                left = [Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ')[:120] for pid in self.living()]
                self.kill_all()
                raise NotAsItShouldBe(f'still there after {END_SECONDS} s: {left}')
            time.sleep(0.05)
        return self.process.returncode


def read_rows(path):
    """The lines of a table below its header."""
    return path.read_text().splitlines()[1:] if path.exists() else []


def check(way, folder, reference, whole):
    """Raises NotAsItShouldBe if a table is not the beginning of the unbroken run's."""
    for name in way.tables:
        expected = (reference / name).read_text()
        if whole and not (folder / name).exists():
            raise NotAsItShouldBe(f'{name} is missing')
        rows = read_rows(folder / name)
        epochs = [row.partition(',')[0] for row in rows]
        if epochs != [str(epoch) for epoch in range(len(rows))]:
            raise NotAsItShouldBe(f'{name} holds the epochs {epochs}')
        if rows != read_rows(reference / name)[: len(rows)]:
            raise NotAsItShouldBe(f'{name} has other values than without kills')
        if whole and (folder / name).read_text() != expected:
            raise NotAsItShouldBe(f'{name} of the finished run is not that without kills')


def kill(started, draws, start_up, epoch):
    """Kills a started way at a moment and in a manner that are drawn.

    Args:
        started: just now.
        draws: a random.Random.
        start_up: seconds that an unbroken run took to its first row.
        epoch: seconds that it took for each row after that.

    Returns:
        The manner; None where it had come to its end before.
    """
    manner = draws.choice(['all', 'all', 'one', 'asked'])
    more = draws.choice([0, 1, 2, 3]) * len(started.way.tables)
    within = draws.random() * (epoch if more else start_up)
    number, choice = draws.choice([signal.SIGTERM, signal.SIGINT]), draws.random()
    reached = started.rows() + more
    while started.rows() < reached and started.process.poll() is None:
        time.sleep(0.005)
    time.sleep(within)
    if started.process.poll() is not None:
        return None
    if manner == 'all':
        started.kill_all()
    elif manner == 'one':
        living = sorted(started.living())
        started.send(signal.SIGKILL, living[int(choice * len(living)) :][:1])
    else:
        started.send(number, [started.process.pid])
    return manner


def unbroken(way, folder):
    """Trains without a kill; returns seconds to the first row, and for each row after that."""
    start = time.monotonic()
    started = Started(way, folder)
    while not started.rows() and started.process.poll() is None:
        time.sleep(0.01)
    first = time.monotonic() - start
    if (status := started.wait()) != 0:
        raise NotAsItShouldBe(f'without a kill it ended with status {status}; see {started.log}')
    return first, (time.monotonic() - start - first) / (EPOCHS * len(way.tables))


def soak(name, way, kills, draws, work):
    """Kills a way so many times, resuming it each time, and lets it come to its end."""
    reference = work / name / 'unbroken'
    start_up, epoch = unbroken(way, reference)
    print(f'{name}: unbroken, {start_up:.1f} s to the first epoch, {epoch:.2f} s for each', flush=True)
    counts, folders, launches = collections.Counter(), 0, 0
    folder = work / name / '0'
    while sum(counts.values()) < kills:
        launches += 1
        started = Started(way, folder)
        try:
            manner = kill(started, draws, start_up, epoch)
            status = started.wait()
            check(way, folder, reference, whole=status == 0)
        except NotAsItShouldBe as error:
            raise NotAsItShouldBe(f'{name}, launch {launches}, {folder}: {error}') from error
        finally:
            started.kill_all()
        if manner is not None:
            counts[manner] += 1
        print(f'{name} {sum(counts.values())}/{kills}: {manner}, status {status}, {started.rows()} epochs', flush=True)
        if status == 0:
            shutil.rmtree(folder)
            folders += 1
            folder = work / name / str(folders)
    status = Started(way, folder).wait()
    if status != 0:
        raise NotAsItShouldBe(f'{name}, {folder}: the last launch, without a kill, ended with status {status}')
    check(way, folder, reference, whole=True)
    print(f'{name}: {kills} kills ({dict(counts)}) in {launches} launches, {folders + 1} runs whole and equal')


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=100, metavar='N', help='number of kills in all (default: 100)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='of when and how they come (default: 0)')
    parser.add_argument('--only', choices=('script', 'compare', 'gloo'), help='one way to train (default: all three)')
    args = parser.parse_args()
    if args.kills < 1:
        parser.error('--kills must be 1 or more')
    return args


def main():
    args = parse_arguments()
    work = Path(tempfile.mkdtemp(prefix='hmix-soak-'))
    write_images(work / 'data')
    (work / 'recipe.yaml').write_text(RECIPE)
    chosen = {name: way for name, way in ways(work).items() if args.only in (None, name)}
    try:
        for number, (name, way) in enumerate(chosen.items()):
            kills = len(range(number, args.kills, len(chosen)))
            soak(name, way, kills, random.Random(f'{args.seed} {name}'), work)
    except NotAsItShouldBe as error:
        sys.exit(f'soak: {error}')
    shutil.rmtree(work)


if __name__ == '__main__':
    main()
