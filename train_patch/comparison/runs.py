"""The runs of a comparison: where each lies, what has been trained there, and whether it belongs to this comparison."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import RunError
from ..common.files import write_bytes, write_json
from ..mixing import mixing_keys
from ..recipes.reader import SafeLoader
from ..trainer.checkpoints import finished_checkpoints, holds_run
from ..trainer.summary import read_table, write_table
from .plan import Comparison, Variant
from .results import METRIC, RunResult, epoch_seconds

RECORD = 'comparison.yaml'
# What may change from one call to the next: where and how a run is trained, not what.
_FREE = {
    *('output', 'experiment', 'resume', 'config', 'local_rank', 'dataset_download', 'workers', 'pin_mem'),
    *('log_interval', 'recovery_interval', 'checkpoint_hist', 'log_wandb', 'wandb_project', 'wandb_tags'),
    *('wandb_resume_id', 'save_images'),
}
_FOLDERS = ('data', 'data_dir')


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    comparison: Comparison
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.variant.name} seed {self.seed}'

    @property
    def folder(self) -> Path:
        """Where training writes what timm writes."""
        return self.comparison.output / self.variant.name / f'seed{self.seed}'

    @property
    def summary(self) -> Path:
        """The run's metrics, one row per epoch."""
        return self.folder / 'summary.csv'

    @property
    def log(self) -> Path:
        """What training printed on this machine."""
        node = self.comparison.node_rank
        return self.folder / (f'train-node{node}.log' if node else 'train.log')

    @property
    def _marker(self) -> Path:
        return self.folder / 'finished.json'

    def command(self, environment: Mapping[str, str]) -> list[str]:
        """The command that trains it, or goes on training it."""
        command = self.comparison.command(self.variant, self.seed, self.folder, environment)
        if self.comparison.script is None:
            return [*command, '--resume', 'auto']
        # No recovery checkpoint: timm's script would leave out the rest of its epoch.
        checkpoints = finished_checkpoints(self.folder)
        return [*command, '--resume', str(checkpoints[0])] if checkpoints else command

    def prepare(self) -> None:
        """Brings the folder into a state that training can start from."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.comparison.script is not None and self.summary.exists():
            # timm's script appends to what it finds. The project's own sees to its files.
            if finished_checkpoints(self.folder):
                self._tidy_summary()
            else:
                self.summary.unlink()  # epochs whose weights are lost, and which are trained again

    def _tidy_summary(self) -> None:
        """Rewrites the table with one header and one row per epoch, where that is not what it holds."""
        rows = read_table(self.summary)
        header = ','.join(dict.fromkeys(column for row in rows.values() for column in row))
        written = self.summary.read_text().splitlines()
        if len(written) != len(rows) + 1 or written[0] != header:
            write_table(self.summary, rows)

    def epochs_done(self) -> int:
        """How many epochs have a row in the table."""
        return max(read_table(self.summary), default=-1) + 1

    def finish(self, epochs: int, facts: Mapping[str, Any]) -> RunResult | str:
        """Marks the run as finished, after its process has ended well.

        Args:
            epochs: how many it was to train for.
            facts: what the table says of it beside its accuracy: arguments of `RunResult`.

        Returns:
            The result, or what is wrong with it.
        """
        rows = read_table(self.summary)
        for epoch, row in rows.items():
            losses = [column for column, value in row.items() if column.endswith('loss') and not _is_finite(value)]
            if losses:
                return f'diverged: {losses[0]} is {row[losses[0]]} in epoch {epoch}'
        curve = self._curve()
        if not curve or max(curve) < epochs - 1:
            return f'ended without {METRIC} for its last epoch in summary.csv'
        self._tidy_summary()
        seconds = epoch_seconds(self.folder / 'times.csv', int(self._arguments().get('val_interval') or 1))
        facts = {**facts, 'epoch_seconds': facts['epoch_seconds'] if seconds is None else seconds}
        write_json(self._marker, {'epochs': max(curve) + 1, **facts})
        return RunResult(self.variant.name, self.seed, curve, **facts)

    def result(self) -> RunResult | None:
        """What it gave, if it is finished.

        Raises:
            RunError: `finished.json` cannot be read.
        """
        if not self._marker.exists():
            return None
        try:
            marker = json.loads(self._marker.read_text())
            epochs, facts = marker.pop('epochs'), {'epoch_seconds': None, **marker}
            result = RunResult(self.variant.name, self.seed, self._curve(), **facts)
            return result if max(result.curve, default=-1) + 1 >= epochs else None  # without its table it is no result
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f'{self._marker} is damaged: {error}. Without it the same command looks at the run again'
            ) from error

    def _curve(self) -> dict[int, float]:
        """Epoch → top-1 in percent; epochs that were not validated are left out."""
        return {epoch: float(row[METRIC]) for epoch, row in read_table(self.summary).items() if row.get(METRIC)}

    def _arguments(self) -> dict[str, Any]:
        return read_arguments(self.folder)


def _is_finite(text: str) -> bool:
    return text == '' or math.isfinite(float(text))


def all_runs(comparison: Comparison) -> list[Run]:
    """Every run, seed by seed: a first table with every variant in it is there as early as can be."""
    return [Run(comparison, variant, seed) for seed in comparison.seeds for variant in comparison.variants]


def read_arguments(folder: Path) -> dict[str, Any]:
    """A run's `args.yaml`; empty before its start.

    Raises:
        RunError: it is damaged.
    """
    path = folder / 'args.yaml'
    return _read_mapping(path) if path.exists() else {}


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        there = yaml.load(path.read_text(), SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f'{path} is damaged: {" ".join(str(error).split())}') from error
    if not isinstance(there, dict):
        raise RunError(f'{path} is damaged: it must hold "name: value" lines')
    return there


def check_same_comparison(comparison: Comparison) -> None:
    """Refuses to mix runs of different recipes or arguments in one folder.

    Every run that trained anything is held to what its `args.yaml` says; script and number of processes, which that
    does not tell, stand in `comparison.yaml`. A folder in which nothing was trained belongs to nobody.

    Raises:
        ValueError: the folder holds other runs; says what is different.
        RunError: a record is damaged.
    """
    path, trained = comparison.output / RECORD, _trained_folders(comparison)
    different = []
    if trained and path.exists():
        there, record = _read_record(path), _record(comparison)
        different = [f'{k}: {there[k]!r} there, {here!r} here' for k, here in record.items() if there[k] != here]
    for folder in trained:
        different += _disagreements(comparison, folder)
    if different:
        listed = '\n  '.join(different)
        raise ValueError(
            f'--output {comparison.output} holds runs of another comparison; give another folder.\n  {listed}'
        )


def claim_folder(comparison: Comparison) -> None:
    """Writes the record of a comparison into its folder, where `check_same_comparison` found nothing against it."""
    path = comparison.output / RECORD
    if not path.exists() or not _trained_folders(comparison):
        write_bytes(path, yaml.safe_dump(_record(comparison), sort_keys=False).encode())


def _record(comparison: Comparison) -> dict[str, Any]:
    return {'script': str(comparison.script) if comparison.script else None, 'processes': comparison.processes}


def _trained_folders(comparison: Comparison) -> list[Path]:
    """The folders of all runs that trained anything, whether they are asked for now or not."""
    folders = sorted(comparison.output.glob('*/seed*'))
    return [folder for folder in folders if folder.name[4:].isdecimal() and holds_run(folder)]


def _read_record(path: Path) -> dict[str, Any]:
    there = _read_mapping(path)
    if not {'script', 'processes'} <= there.keys():
        raise RunError(f'{path} is damaged: it does not name script and processes')
    return there


def _disagreements(comparison: Comparison, folder: Path) -> list[str]:
    """Where a run in the folder was trained with other settings than those of this comparison."""
    there = read_arguments(folder)
    here = comparison.resolved.get(folder.parent.name)
    if here is None:  # a variant that is not asked for now: only what all have in common can be compared
        rows = list(comparison.resolved.values())
        here = {key: value for key, value in rows[0].items() if all(row.get(key) == value for row in rows)}
        here = {key: value for key, value in here.items() if key not in varied()}
    here = {**here, 'seed': int(folder.name.removeprefix('seed'))}
    return [
        f'{folder.parent.name} seed {here["seed"]}: {key} is {there[key]!r} there, {value!r} here'
        for key, value in here.items()
        if key in there and key not in _FREE and not _same(key, there[key], value)
    ]


def varied() -> set[str]:
    """Names of the arguments in which the variants of a comparison differ."""
    return {*mixing_keys()} - {'mix_preset', 'mix_families'}


def _same(key: str, one: Any, other: Any) -> bool:
    if key in _FOLDERS and one and other:
        return Path(one).resolve() == Path(other).resolve()
    try:
        return one == other or float(one) == float(other)  # YAML 1.1 reads 1e-3 as text
    except (TypeError, ValueError):
        return False
