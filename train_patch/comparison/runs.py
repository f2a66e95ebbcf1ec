"""What a comparison trains: which runs, by which commands, and how far each has come on disk."""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..mixing import mode_uses
from .results import RunResult, read_curve, read_epoch_seconds, tidy_summary, write_bytes

_CHECKPOINT = re.compile(r'checkpoint-(\d+)\.pth\.tar')
# --mix-mode puts its own values there
_RESOLVED = {'mixup', 'cutmix', 'cutmix_minmax', 'mixup_switch_prob'}


@dataclass(frozen=True)
class Comparison:
    """What is to be trained: everything that the command line and the recipe say.

    Args:
        recipe: The YAML file.
        settings: What it holds.
        modes: Rows of the paper's tables.
        seeds: Each mode is trained once with each.
        output: The folder of all runs.
        script: A timm train script, or None for this project's own.
        torchrun: torchrun's options; empty for a plain process.
        node_rank: Which machine this is; machine 0 keeps the books.
        mix_options: `--hmix-ratio` and the like; each goes to the modes that have a use for it.
        environment: What a command begins with to set environment variables, if it has to.
        data_arguments: Where the embedded data set lies, if that is what the recipe trains on.
        arguments: All other training arguments, passed through.
    """

    recipe: Path
    settings: Mapping[str, Any]
    modes: tuple[str, ...]
    seeds: tuple[int, ...]
    output: Path
    script: Path | None
    torchrun: tuple[str, ...]
    node_rank: int
    mix_options: Mapping[str, str]
    environment: tuple[str, ...]
    data_arguments: tuple[str, ...]
    arguments: tuple[str, ...]

    def runs(self) -> list['Run']:
        """Every run, seed by seed: a first table with every mode in it is there as early as can be."""
        return [Run(self, mode, seed) for seed in self.seeds for mode in self.modes]


@dataclass(frozen=True)
class Run:
    """One mode with one seed."""

    comparison: Comparison
    mode: str
    seed: int

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.mode} seed {self.seed}'

    @property
    def folder(self) -> Path:
        """Where training writes what timm writes."""
        return self.comparison.output / self.mode / f'seed{self.seed}'

    @property
    def summary(self) -> Path:
        """The run's metrics, one row per epoch."""
        return self.folder / 'summary.csv'

    @property
    def log(self) -> Path:
        """What training printed on this machine."""
        node = self.comparison.node_rank
        return self.folder / (f'train-node{node}.log' if node else 'train.log')

    def command(self) -> list[str]:
        """The command that trains it, or goes on training it."""
        compared = self.comparison
        launcher = ['-m', 'torch.distributed.run', *compared.torchrun] if compared.torchrun else []
        mix_options = [
            word
            for option, value in compared.mix_options.items()
            if mode_uses(self.mode, option.removeprefix('--').replace('-', '_'))
            for word in (option, value)
        ]
        return [
            *(*compared.environment, sys.executable, *launcher, '-m', 'train_patch'),
            *([str(compared.script)] if compared.script else []),
            *('-c', str(compared.recipe), '--mix-mode', self.mode, '--seed', str(self.seed)),
            *('--output', str(self.folder.parent), '--experiment', self.folder.name),
            *(*compared.data_arguments, *compared.arguments, *mix_options),
            *self._resume_arguments(),
        ]

    def _resume_arguments(self) -> list[str]:
        if self.comparison.script is None:
            return ['--resume', 'auto']
        checkpoint = self._newest_checkpoint()
        return ['--resume', str(checkpoint)] if checkpoint else []

    def _newest_checkpoint(self) -> Path | None:
        """What timm's script resumes from. No recovery checkpoint: timm would leave out the rest of its epoch."""
        last = self.folder / 'last.pth.tar'
        if last.exists():  # timm deletes the old one before it renames the new one
            return last
        found = [(match, path) for path in self.folder.glob('*') if (match := _CHECKPOINT.fullmatch(path.name))]
        return max(found, key=lambda entry: int(entry[0][1]))[1] if found else None

    def prepare(self) -> None:
        """Bring the folder into a state that training can start from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.comparison.script is not None and self.summary.exists():
            # timm's script appends to what it finds. The lean script sees to its own files.
            if self._newest_checkpoint() is None:
                self.summary.unlink()  # epochs whose weights are lost, and which are trained again
            else:
                tidy_summary(self.summary)

    def epochs(self) -> int | None:
        """How many epochs it trains for, as the run itself resolved its arguments; None before its start."""
        settings = self._arguments()
        return int(settings['epochs']) + int(settings.get('cooldown_epochs') or 0) if 'epochs' in settings else None

    def _arguments(self) -> dict[str, Any]:
        """The run's arguments as it resolved them; empty before its start."""
        path = self.folder / 'args.yaml'
        return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}

    def recorded_epoch_seconds(self) -> float | None:
        """Seconds per epoch as the lean script recorded them; None for timm's script, which does not."""
        return read_epoch_seconds(self.folder / 'times.csv', int(self._arguments().get('val_interval') or 1))

    def finish(self, epoch_seconds: float | None) -> RunResult | None:
        """Mark the run as finished, after its process has ended well.

        Args:
            epoch_seconds: Seconds per epoch, if they could be measured.

        Returns:
            The result, or None where epochs are missing or were not validated.
        """
        result = self._result(epoch_seconds)
        if result is not None:
            tidy_summary(self.summary)
            marker = {'epochs': max(result.curve) + 1, 'epoch_seconds': epoch_seconds}
            write_bytes(self._marker, json.dumps(marker).encode() + b'\n')
        return result

    def result(self) -> RunResult | None:
        """What it gave, if it is finished."""
        return self._result(json.loads(self._marker.read_text())['epoch_seconds']) if self._marker.exists() else None

    def _result(self, epoch_seconds: float | None) -> RunResult | None:
        epochs, curve = self.epochs(), read_curve(self.summary)
        complete = epochs is not None and bool(curve) and max(curve) >= epochs - 1
        return RunResult(self.mode, self.seed, curve, epoch_seconds) if complete else None

    @property
    def _marker(self) -> Path:
        return self.folder / 'finished.json'

    def disagreements(self) -> list[str]:
        """Where a run that is in the folder already was trained with other settings than the recipe's."""
        there = self._arguments()
        passed = {word.split('=')[0].removeprefix('--').replace('-', '_') for word in self.comparison.arguments}
        wanted = {k: v for k, v in self.comparison.settings.items() if k not in _RESOLVED | passed}
        wanted |= {'mix_mode': self.mode, 'seed': self.seed}
        return [
            f'{self.name}: {key} is {there[key]!r} there, {value!r} here'
            for key, value in wanted.items()
            if key in there and not _same(there[key], value)
        ]


def _same(one: Any, other: Any) -> bool:
    try:
        return one == other or float(one) == float(other)  # YAML 1.1 reads 1e-3 as text
    except (TypeError, ValueError):
        return False


def check_same_comparison(comparison: Comparison) -> None:
    """Refuse to mix runs of different recipes or arguments in one folder; on the first call, write down what they are.

    Runs that came into the folder without `comparison.yaml`, from the launch lines of a dry run, are held against the
    recipe.

    Raises:
        ValueError: the folder holds other runs; says what is different.
    """
    path = comparison.output / 'comparison.yaml'
    record = _record(comparison)
    if path.exists():
        there = yaml.safe_load(path.read_text())
        different = _differences(there, record)
    else:
        different = [line for run in comparison.runs() for line in run.disagreements()]
    if different:
        listed = '\n  '.join(different)
        raise ValueError(
            f'--output {comparison.output} holds runs of another comparison; give another folder.\n  {listed}'
        )
    if not path.exists():
        write_bytes(path, yaml.safe_dump(record, sort_keys=False).encode())


def _record(comparison: Comparison) -> dict[str, Any]:
    """What must be the same for two runs to stand in one table."""
    return {
        'recipe': dict(comparison.settings),
        'script': str(comparison.script) if comparison.script else None,
        'arguments': list(comparison.arguments),
        'mix_options': dict(comparison.mix_options),
        'processes': [word for word in comparison.torchrun if word.startswith(('--nproc-per-node', '--nnodes'))],
    }


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    lines = []
    for key in dict.fromkeys([*there['recipe'], *here['recipe']]):
        old, new = (record['recipe'].get(key) for record in (there, here))
        if old != new:
            lines.append(f'recipe, {key}: {old!r} there, {new!r} here')
    for key in ('script', 'arguments', 'mix_options', 'processes'):
        if there[key] != here[key]:
            lines.append(f'{key}: {there[key]!r} there, {here[key]!r} here')
    return lines
