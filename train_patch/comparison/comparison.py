"""A comparison: the runs that a command line asks for, the folder that holds them, and their results."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import yaml

from ..common.errors import WrongArguments
from ..common.files import write_bytes
from ..data.digits import digits_path
from ..mixing import mixing_keys
from ..trainer.checkpoints import finished_checkpoints, holds_run
from ..trainer.output import read_table, write_table
from .reading import METRICS, RunResult, differences, read_arguments, read_run
from .results import Row

RECORD = 'comparison.yaml'


@dataclass(frozen=True)
class Variant(Row):
    """A row of the table that is to be trained.

    Args:
        line: all training arguments, without seed and folder.
        resolved: the same as training's parser resolves them, as `args.yaml` records them.
    """

    line: tuple[str, ...] = ()
    resolved: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return quote(self.name, safe=' =.,+-:')


def row_of(folder: str, colours: Mapping[str, str]) -> Row:
    """The row whose runs are in a folder of that name."""
    mode, *settings = unquote(folder).split(' ')
    pairs = [setting.partition('=')[::2] for setting in settings]
    return Row(mode, tuple((key, value) for key, value in pairs), colours.get(mode, Row.colour))


@dataclass
class Comparison:
    """One recipe under several variants and seeds.

    Args:
        recipe: the YAML file.
        variants: the rows of the table.
        output: the folder of all runs.
        script: a timm train script, or None for this project's own.
        options: of the command.
        arguments: given on the command line, in place of the recipe's.
        images: number of images that top-1 is measured on; None if the data set cannot say, or rows have other data.
        results: of the runs that were finished or that have ended.
        stopped: why no more runs were started; empty if all were.
    """

    recipe: Path
    variants: tuple[Variant, ...]
    output: Path
    script: Path | None
    options: argparse.Namespace
    arguments: tuple[str, ...]
    images: int | None = None
    results: list[RunResult] = field(default_factory=list)
    stopped: str = ''

    @property
    def training(self) -> Mapping[str, Any]:
        """The resolved arguments of the first variant, for those that all variants share."""
        return self.variants[0].resolved

    @property
    def on_digits(self) -> bool:
        """Whether it trains on the embedded digits."""
        return self.training['data_dir'] == str(digits_path()) and not self.training['dataset']

    @property
    def torchrun(self) -> list[str]:
        """torchrun's options, on which results depend; empty for runs of one process."""
        nodes, count = self.options.nodes, self.options.nproc_per_node
        return [f'--nnodes={nodes}'] * (nodes > 1) + ([f'--nproc-per-node={count}'] if count else [])

    @property
    def processes(self) -> int:
        """Number of processes of each run."""
        return self.options.nodes * (self.options.nproc_per_node or 1)

    @property
    def runs(self) -> 'list[Run]':
        """All runs, seed by seed, so that a first table with every variant is there early."""
        return [Run(self, variant, seed) for seed in dict.fromkeys(self.options.seeds) for variant in self.variants]

    def check_folder(self) -> None:
        """Refuses to mix runs of different recipes or arguments in one folder.

        Each run that was trained there is compared with its `args.yaml`; `comparison.yaml` records script and number
        of processes, which are not among the arguments. Without a trained run the folder is free.

        Raises:
            WrongArguments: the folder holds other runs; the message lists all differences.
            RunError: a record is damaged.
        """
        trained = self._trained_folders()
        there = read_arguments(self.output / RECORD) if trained else {}
        different = [
            f'{key}: {there[key]!r} there, {here!r} here'
            for key, here in self._record().items()
            if there.get(key, here) != here
        ]
        different += [line for folder in trained for line in self._differences(folder)]
        if different:
            intro = f'--output {self.output} holds runs of another comparison; give another folder.'
            raise WrongArguments('\n  '.join([intro, *different]))

    def claim_folder(self) -> None:
        """Writes the record of this comparison into its folder, which `check_folder` has accepted."""
        path = self.output / RECORD
        there = read_arguments(path) if self._trained_folders() else {}
        record = {**self._record(), 'images': self.images, **there}
        if record['images'] != self.images:  # runs there have other data
            record['images'] = None
        write_bytes(path, yaml.safe_dump(record, sort_keys=False).encode())

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
        there = read_arguments(folder / 'args.yaml')
        name, seed = unquote(folder.parent.name), int(folder.name.removeprefix('seed'))
        if not there:
            return [f'{name} seed {seed}: its args.yaml is lost, so nobody can tell what was trained there']
        here = {variant.folder: variant.resolved for variant in self.variants}.get(folder.parent.name)
        if here is None:  # it is not asked for now: only the arguments that all variants share can be compared
            rows = [row_of(folder.parent.name, {}), *self.variants]
            varied = varied_options() | {key for row in rows for key, _ in row.settings}
            here = {key: value for key, value in self.training.items() if key not in varied}
        different = differences(there, {**here, 'seed': seed})
        return [
            f'{name} seed {seed}: {key} is {one!r} there, {other!r} here'
            + ' (the code of its family was edited: undo that, or train into another folder)' * (key == 'mix_digest')
            for key, (one, other) in different.items()
        ]


def varied_options() -> set[str]:
    """Names of the arguments in which the mix modes of a comparison may differ."""
    return {*mixing_keys()} - {'mix_preset', 'mix_families'}


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
        return self.comparison.output / self.variant.folder / f'seed{self.seed}'

    @property
    def summary(self) -> Path:
        """The run's metrics, one row per epoch."""
        return self.folder / 'summary.csv'

    @property
    def log(self) -> Path:
        """The output of its training processes."""
        return self.folder / 'train.log'

    def command(self, environment: Mapping[str, str], launcher: Sequence[str] | None = None) -> list[str]:
        """The command that trains it, or resumes it.

        Args:
            environment: variables that are set for this run alone.
            launcher: options of Python that start the processes of the run; torchrun's if None.
        """
        setting = ['env', *(f'{name}={value}' for name, value in environment.items())] if environment else []
        torchrun, script = self.comparison.torchrun, self.comparison.script
        if launcher is None:  # alone on its machine, a run takes any free port
            alone = ['--standalone'] if self.comparison.options.nodes == 1 else []
            launcher = ['-m', 'torch.distributed.run', *alone, *torchrun] if torchrun else []
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

    def read(self) -> RunResult:
        """What its folder says now."""
        options, arguments = self.comparison.options, {**self.variant.resolved, 'seed': self.seed}
        return read_run(self.folder, self.variant.name, arguments, options.metric, options.last)

    def finish(self, problem: str = '') -> RunResult:
        """What a run has come to whose process has ended; tidies the table of timm's script.

        Args:
            problem: why the process ended, if not well.
        """
        read = self.read()
        if not problem and read.state == 'unfinished':
            problem = f'ended without {self.comparison.options.metric or METRICS[0]} for its last epoch in summary.csv'
        if self.comparison.script is not None and not problem:
            write_table(self.summary, read_table(self.summary))
        return replace(read, problem=problem or read.problem)
