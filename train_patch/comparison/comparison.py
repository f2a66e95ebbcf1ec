"""A comparison: the runs that a command line asks for, the folder that holds them, and their results."""

import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import RunError, WrongArguments
from ..common.files import write_bytes, write_json
from ..data.digits import digits_path
from ..mixing import mixing_keys
from ..recipes.reader import read_recipe
from ..trainer.checkpoints import finished_checkpoints, holds_run
from ..trainer.output import read_table, write_table
from .results import METRIC, Failure, RunResult

BASELINES = ('none', 'cutmix', 'bbox')
RECORD = 'comparison.yaml'
# Arguments that say where and how a run is trained, not what: they may change from one call to the next.
_FREE = {
    *('output', 'experiment', 'resume', 'config', 'local_rank', 'dataset_download', 'workers', 'pin_mem'),
    *('log_interval', 'recovery_interval', 'checkpoint_hist', 'log_wandb', 'wandb_project', 'wandb_tags'),
    *('wandb_resume_id', 'save_images', 'mix_families'),  # mix_digest says what is in that file
}


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        name: of the row, and of the folder of its runs.
        colour: in plots.
        changed: whether it uses a mixing option of the command line, in place of the recipe's or the preset's.
        line: all training arguments, without seed and folder.
        resolved: the same as training's parser resolves them, as `args.yaml` records them.
    """

    name: str
    colour: str
    changed: bool
    line: tuple[str, ...]
    resolved: Mapping[str, Any]


@dataclass
class Comparison:
    """One recipe under several variants and seeds.

    Args:
        recipe: the YAML file.
        variants: the rows of the table.
        seeds: each variant is trained once with each.
        output: the folder of all runs.
        script: a timm train script, or None for this project's own.
        jobs: how many runs are trained at once.
        nproc_per_node: torchrun's option: processes of each run; None for plain processes.
        arguments: given on the command line, in place of the recipe's.
        plain: the arguments of a recipe of the paper's alone, resolved; {} for any other recipe.
        epochs: number of epochs of each run, cool-down included.
        validation_images: number of images that top-1 is measured on; None if the data set cannot say.
        results: of the finished runs.
        failures: of the runs that ended otherwise.
        stopped: why no more runs were started; empty if all were.
    """

    recipe: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    output: Path
    script: Path | None
    jobs: int
    nproc_per_node: int | None
    arguments: tuple[str, ...]
    plain: Mapping[str, Any]
    epochs: int = 0
    validation_images: int | None = None
    results: list[RunResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stopped: str = ''

    @property
    def training(self) -> Mapping[str, Any]:
        """The resolved arguments of the first variant, for those that all variants share."""
        return self.variants[0].resolved

    @property
    def baselines(self) -> list[str]:
        """The rows that all others are compared with."""
        names = [variant.name for variant in self.variants]
        return [name for name in BASELINES if name in names]

    @property
    def on_digits(self) -> bool:
        """Whether it trains on the embedded digits."""
        return self.training['data_dir'] == str(digits_path()) and not self.training['dataset']

    @property
    def torchrun(self) -> list[str]:
        """torchrun's options, on which results depend; empty for runs of one process."""
        return [f'--nproc-per-node={self.nproc_per_node}'] if self.nproc_per_node else []

    @property
    def runs(self) -> 'list[Run]':
        """All runs, seed by seed, so that a first table with every variant is there early."""
        return [Run(self, variant, seed) for seed in self.seeds for variant in self.variants]

    def check_folder(self) -> None:
        """Refuses to mix runs of different recipes or arguments in one folder.

        Each run that was trained there is compared with its `args.yaml`; `comparison.yaml` records script and number
        of processes, which are not among the arguments. Without a trained run the folder is free.

        Raises:
            WrongArguments: the folder holds other runs; the message lists all differences.
            RunError: a record is damaged.
        """
        trained = self._trained_folders()
        there = _read_mapping(self.output / RECORD) if trained else {}
        different = [
            f'{key}: {there[key]!r} there, {here!r} here'
            for key, here in self._record().items()
            if there.get(key, here) != here
        ]
        for folder in trained:
            different += self._differences(folder)
        if different:
            listed = '\n  '.join(different)
            raise WrongArguments(
                f'--output {self.output} holds runs of another comparison; give another folder.\n  {listed}'
            )

    def claim_folder(self) -> None:
        """Writes the record of this comparison into its folder, which `check_folder` has accepted."""
        path = self.output / RECORD
        if not path.exists() or not self._trained_folders():
            write_bytes(path, yaml.safe_dump(self._record(), sort_keys=False).encode())

    def _record(self) -> dict[str, Any]:
        return {'script': str(self.script) if self.script else None, 'processes': self.torchrun}

    def _trained_folders(self) -> list[Path]:
        """Returns the folders of all trained runs, also of runs that are not asked for now."""
        return [
            folder
            for folder in sorted(self.output.glob('*/seed*'))
            if folder.name[4:].isdecimal() and holds_run(folder)
        ]

    def _differences(self, folder: Path) -> list[str]:
        """Lists the settings of a trained run that are not those of this comparison."""
        there = _read_mapping(folder / 'args.yaml')
        # a variant that is not asked for now: only the arguments that all variants share can be compared
        shared = {key: value for key, value in self.training.items() if key not in varied_options()}
        here = {variant.name: variant.resolved for variant in self.variants}.get(folder.parent.name, shared)
        seed = int(folder.name.removeprefix('seed'))
        return [
            f'{folder.parent.name} seed {seed}: {key} is {there[key]!r} there, {value!r} here'
            + ' (the code of its family was edited: undo that, or train into another folder)' * (key == 'mix_digest')
            for key, value in {**here, 'seed': seed}.items()
            if key in there and key not in _FREE and not _same(key, there[key], value)
        ]


def varied_options() -> set[str]:
    """Names of the arguments in which the variants of a comparison may differ."""
    return {*mixing_keys()} - {'mix_preset', 'mix_families'}


def _same(key: str, one: Any, other: Any) -> bool:
    if key in ('data', 'data_dir') and one and other:
        return Path(one).resolve() == Path(other).resolve()
    return one == other


def _read_mapping(path: Path) -> dict[str, Any]:
    """Reads a YAML file of "name: value" lines; {} if it is missing. Raises RunError if it is damaged."""
    try:
        return read_recipe(path) if path.exists() else {}
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error


@dataclass(frozen=True)
class Run:
    """One variant with one seed: what its folder holds."""

    comparison: Comparison
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.variant.name} seed {self.seed}'

    @property
    def folder(self) -> Path:
        """The folder that training writes to."""
        return self.comparison.output / self.variant.name / f'seed{self.seed}'

    @property
    def summary(self) -> Path:
        """The run's metrics, one row per epoch."""
        return self.folder / 'summary.csv'

    @property
    def log(self) -> Path:
        """The output of its training processes."""
        return self.folder / 'train.log'

    def command(self, environment: Mapping[str, str]) -> list[str]:
        """The command that trains it, or resumes it.

        Args:
            environment: variables that are set for this run alone.
        """
        setting = ['env', *(f'{name}={value}' for name, value in environment.items())] if environment else []
        torchrun, script = self.comparison.torchrun, self.comparison.script
        # alone on its machine, a run takes any free port
        launcher = ['-m', 'torch.distributed.run', '--standalone', *torchrun] if torchrun else []
        place = ['--seed', str(self.seed), '--output', str(self.folder.parent), '--experiment', self.folder.name]
        resume = ['--resume', 'auto']
        if script is not None:  # no recovery checkpoint: timm's script would leave out the rest of its epoch
            resume = [word for path in finished_checkpoints(self.folder)[:1] for word in ('--resume', str(path))]
        program = [sys.executable, *launcher, '-m', 'train_patch', *([str(script)] if script else [])]
        digest = self.variant.resolved.get('mix_digest')  # an edit while the comparison goes on is noticed
        held = ['--mix-digest', digest] if digest else []
        return [*setting, *program, *self.variant.line, *held, *place, *resume]

    def prepare(self) -> None:
        """Makes the folder, and a table there that timm's script can append to; this project's script tidies its own.

        timm's script repeats the header when it resumes, and epochs whose checkpoint was lost.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.comparison.script is not None:
            write_table(self.summary, read_table(self.summary) if finished_checkpoints(self.folder) else {})

    def epochs_done(self) -> int:
        """The number of epochs in the table."""
        return max(read_table(self.summary), default=-1) + 1

    def failure(self, reason: str) -> Failure:
        """Its failure, with the reason."""
        return Failure(self.variant.name, self.seed, reason, self.log)

    def finish(self, epoch_seconds: float | None, threads: int) -> RunResult | Failure:
        """Marks the run as finished, after its process has ended well.

        Args:
            epoch_seconds: how long an epoch took, for a script that does not write `times.csv`.
            threads: number of threads that torch computed with, in each process.
        """
        comparison, rows, curve = self.comparison, read_table(self.summary), self._curve()
        for epoch, row in rows.items():
            for column, value in row.items():
                if column.endswith('loss') and not math.isfinite(float(value or 0)):
                    return self.failure(f'diverged: {column} is {value} in epoch {epoch}')
        if max(curve, default=-1) < comparison.epochs - 1:
            return self.failure(f'ended without {METRIC} for its last epoch in summary.csv')
        if comparison.script is not None:
            write_table(self.summary, rows)
        elif times := read_table(self.folder / 'times.csv').values():  # a row for each validation
            interval = comparison.training['val_interval']
            # the median, because the first epoch starts the loader's workers
            epoch_seconds = statistics.median(float(t['train_time']) + float(t['eval_time']) / interval for t in times)
        images, jobs = comparison.validation_images, comparison.jobs
        facts: dict[str, Any] = dict(epoch_seconds=epoch_seconds, validation_images=images, jobs=jobs, threads=threads)
        write_json(self._marker, {'epochs': max(curve) + 1, **facts})
        return RunResult(self.variant.name, self.seed, curve, **facts)

    def result(self) -> RunResult | None:
        """The result of a finished run; None for an unfinished one, and for one whose table was lost.

        Raises:
            RunError: `finished.json` cannot be read.
        """
        try:
            facts = {'epoch_seconds': None, **json.loads(self._marker.read_text())}
            epochs = facts.pop('epochs')
            result = RunResult(self.variant.name, self.seed, self._curve(), **facts)
            return result if max(result.curve, default=-1) + 1 >= epochs else None
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f'{self._marker} is damaged: {error}. Delete it to have the run looked at again') from error

    @property
    def _marker(self) -> Path:
        return self.folder / 'finished.json'

    def _curve(self) -> dict[int, float]:
        """Epoch → top-1 in percent, for the epochs that were validated."""
        return {epoch: float(row[METRIC]) for epoch, row in read_table(self.summary).items() if row.get(METRIC)}
