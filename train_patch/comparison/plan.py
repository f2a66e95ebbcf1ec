"""What is to be compared: from the command line and a recipe to a `Comparison`, and to the launch lines of its runs."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmix_timm.families import FAMILIES
from hmix_timm.modes import mix_modes

from ..common.command import add_version, at_least
from ..data.digits import digits_path
from ..mixing import declare, share_options
from ..recipes.published import PAPER_MODES
from ..recipes.reader import RECIPE_FOLDER, find_recipe, shipped_recipes
from .checks import resolve

DIGITS_RECIPE = RECIPE_FOLDER / 'digits.yaml'
BASELINES = ('none', 'cutmix', 'bbox')

# Training options that tell the runs apart or say where they lie → how to say that here.
OWN_OPTIONS = {
    '--mix-mode': '--modes says which mix modes to train',
    '--cutmix-mode': '--cutmix-modes says which masks to train',
    '--mode': '--modes says which mix modes to train',
    '--seed': '--seeds says which seeds to train with',
    '--output': '--output DIR holds all runs',
    '--experiment': '--output DIR holds all runs',
    '--resume': 'interrupted runs are resumed when the command is given again',
    '--config': 'the recipe is the first argument',
}
TIMMS_OPTIONS = ('--cutmix', '--cutmix-m')  # they do not abbreviate --cutmix-mode
# the part of the mixing group that belongs to the whole comparison; the rest belongs to single variants
SHARED_MIX_DESTS = ('mix_mode', 'cutmix_mode', 'mix_preset', 'mix_families')
# torchrun's options that are taken → what they say
TORCHRUN_OPTIONS = {
    '--nproc-per-node': 'processes of each run on this machine (default: a run is one process)',
    '--nnodes': 'machines of each run (default: 1)',
    '--node-rank': 'number of this machine, from 0; machine 0 writes the results (default: 0)',
    '--rdzv-backend': 'how the machines find each other (default: static)',
    '--rdzv-endpoint': 'host and port where they do',
    '--rdzv-id': 'name of the job (default: none)',
    '--rdzv-conf': 'more for the backend, KEY=VALUE,… (default: none)',
    '--master-addr': 'host of machine 0, for the backend static (default: 127.0.0.1)',
    '--master-port': 'port of machine 0, for the backend static (default: 29500)',
}


@dataclass(frozen=True)
class Variant:
    """One row of the table: what is varied, as training arguments.

    Args:
        name: of the row, and of the folder of its runs.
        colour: in plots.
        arguments: what makes a training run one of this row.
        changed: whether hyper-parameters were given for it, in place of the recipe's.
    """

    name: str
    colour: str
    arguments: tuple[str, ...]
    changed: bool = False


@dataclass(frozen=True)
class Comparison:
    """What is to be trained: everything that the command line and the recipe say.

    Args:
        recipe: the YAML file.
        variants: the rows of the table.
        seeds: each variant is trained once with each.
        output: the folder of all runs.
        script: a timm train script, or None for this project's own.
        jobs: how many runs are trained at once.
        torchrun: torchrun's options; empty for a plain process.
        node_rank: which machine this is; machine 0 keeps the books.
        arguments: all other training arguments, passed through.
        resolved: variant → what training makes of all its arguments, as its `args.yaml` will say.
        plain: the same for the recipe alone.
    """

    recipe: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    output: Path
    script: Path | None
    jobs: int
    torchrun: tuple[str, ...]
    node_rank: int
    arguments: tuple[str, ...]
    resolved: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    plain: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def training(self) -> Mapping[str, Any]:
        """The resolved arguments of the first variant: what the variants have in common can be read there."""
        return self.resolved[self.variants[0].name]

    @property
    def baselines(self) -> tuple[str, ...]:
        """The rows that all others are held against."""
        names = {variant.name for variant in self.variants}
        return tuple(name for name in BASELINES if name in names)

    @property
    def on_digits(self) -> bool:
        """Whether it trains on the embedded digits."""
        return self.training['data_dir'] == str(digits_path()) and not self.training['dataset']

    @property
    def processes(self) -> list[str]:
        """The part of torchrun's options on which results depend: how many processes one run has."""
        return [word for word in self.torchrun if word.startswith(('--nproc-per-node', '--nnodes'))]

    @property
    def processes_of_a_run(self) -> int:
        """How many processes train one run, on all machines."""
        counts = [word.partition('=')[2] for word in self.processes]
        return math.prod(int(count) for count in counts if count.isdecimal())

    def training_arguments(self, variant: Variant) -> list[str]:
        """What a run of a variant is given, but for its seed and its folder."""
        digits = ['--data-dir', str(digits_path())] if self.recipe == DIGITS_RECIPE else []
        return ['-c', str(self.recipe), *variant.arguments, *digits, *self.arguments]

    def command(self, variant: Variant, seed: int, folder: Path, environment: Mapping[str, str]) -> list[str]:
        """The command that trains a run.

        Args:
            variant: the row of the table.
            seed: the run's seed.
            folder: where training writes what timm writes.
            environment: variables set for this run alone.
        """
        setting = ['env', *(f'{name}={value}' for name, value in environment.items())] if environment else []
        launcher = ['-m', 'torch.distributed.run', *self.torchrun] if self.torchrun else []
        script = [str(self.script)] if self.script else []
        place = ['--seed', str(seed), '--output', str(folder.parent), '--experiment', folder.name]
        return [
            *(*setting, sys.executable, *launcher, '-m', 'train_patch', *script),
            *(*self.training_arguments(variant), *place),
        ]


def build_parser() -> argparse.ArgumentParser:
    """The options of hmix-compare itself; everything else is training's."""
    parser = argparse.ArgumentParser(
        prog='hmix-compare',
        usage='hmix-compare [RECIPE] [--modes MODE ...] [--seeds K ...] [--output DIR] [--script TRAIN.PY] [--jobs N] '
        '[--dry-run] [--nproc-per-node N ...] [any training argument]',
        description='Train one recipe under several mix modes and seeds, and print the table of the paper.',
        allow_abbrev=False,
    )
    parser.add_argument(
        'recipe',
        metavar='RECIPE',
        help=f'YAML file, or a shipped recipe: {", ".join(shipped_recipes())}; must come first (default: digits)',
    )
    varied = parser.add_mutually_exclusive_group()
    varied.add_argument(
        '--modes',
        nargs='+',
        choices=tuple(mix_modes()),
        metavar='MODE',
        help=f'mix modes to train: {", ".join(mix_modes())} (default: {" ".join(PAPER_MODES)})',
    )
    varied.add_argument(
        '--cutmix-modes',
        nargs='+',
        choices=tuple(FAMILIES),
        metavar='MASK',
        help="masks to train in place of the recipe's CutMix, all else being the recipe's: " + ', '.join(FAMILIES),
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=at_least(0),
        default=[0, 1, 2],
        metavar='K',
        help='seeds to train with (default: 0 1 2)',
    )
    parser.add_argument(
        '--output', type=Path, metavar='DIR', help='folder of all runs and results (default: comparison/<recipe>)'
    )
    parser.add_argument(
        '--script', type=Path, metavar='TRAIN.PY', help="timm's train.py to train with (default: this project's own)"
    )
    parser.add_argument(
        '--jobs',
        type=at_least(1),
        default=1,
        metavar='N',
        help='runs to train at once, each with a GPU of its own or an equal share of the cores (default: 1)',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='print one launch line per run that is not finished; train and write nothing',
    )
    add_version(parser)
    _add_variant_options(parser.add_argument_group('mixing', 'each option goes to the rows that have a use for it'))
    group = parser.add_argument_group('many processes', "torchrun's options; one of them makes every run a torchrun")
    for option, text in TORCHRUN_OPTIONS.items():
        spellings = dict.fromkeys([option, '--' + option[2:].replace('-', '_')])
        group.add_argument(*spellings, metavar='X', help=text)
    return parser


def _add_variant_options(group: Any) -> None:
    """Declares the part of the mixing group that belongs to single rows, as text for training to resolve."""
    for action in _variant_actions():
        if action.nargs == 0:
            group.add_argument(*action.option_strings, action='store_const', const='', help=action.help)
        else:
            group.add_argument(*action.option_strings, metavar=action.metavar, help=action.help)


def _variant_actions() -> list[argparse.Action]:
    scratch = argparse.ArgumentParser(add_help=False)
    declare(scratch)
    return [action for action in scratch._actions if action.dest not in SHARED_MIX_DESTS]


def read_comparison(options: argparse.Namespace, passed: Sequence[str]) -> Comparison:
    """Checks the command line and the recipe, by training's own parser too.

    Args:
        options: from `build_parser()`.
        passed: the words that it did not know.

    Raises:
        ValueError: something is wrong; names the option and the value.
    """
    lists = {'--modes': options.modes, '--cutmix-modes': options.cutmix_modes, '--seeds': options.seeds}
    for option, values in lists.items():
        if values and len(set(values)) < len(values):
            raise ValueError(f'{option} {" ".join(map(str, values))}: one is there twice')
    _check_passed(passed)
    recipe = find_recipe(options.recipe).resolve()
    if options.script is not None and not options.script.is_file():
        raise ValueError(f'--script {options.script}: no such file')
    place = Path('comparison', recipe.stem + ('-cutmix-modes' if options.cutmix_modes else ''))
    output = options.output if options.output is not None else place
    comparison = Comparison(
        recipe=recipe,
        variants=_variants(options),
        seeds=tuple(options.seeds),
        output=output.absolute(),
        script=None if options.script is None else options.script.resolve(),
        jobs=options.jobs,
        torchrun=_torchrun(options),
        node_rank=_node_rank(options),
        arguments=tuple(passed),
    )
    *resolved, plain = resolve(
        comparison.script,
        [*map(comparison.training_arguments, comparison.variants), ['-c', str(recipe)]],
    )
    names = [variant.name for variant in comparison.variants]
    comparison = dataclasses.replace(comparison, resolved=dict(zip(names, resolved, strict=True)), plain=plain)
    _check_data_given(comparison)
    return comparison


def _value(options: argparse.Namespace, option: str) -> str | None:
    return getattr(options, option[2:].replace('-', '_'))


def _check_passed(passed: Sequence[str]) -> None:
    if passed and not passed[0].startswith('-'):
        raise ValueError(f'{passed[0]!r} is no option; a recipe must be the first argument')
    for word in passed:
        if word.endswith(('.yaml', '.yml')) and not word.startswith('-'):
            raise ValueError(f'{word!r}: a recipe must be the first argument')
        name = word.split('=')[0]
        for option, instead in OWN_OPTIONS.items():
            # training's own parser takes abbreviations
            if name.startswith('--') and option.startswith(name) and name not in TIMMS_OPTIONS:
                meant = '' if name == option else f' ({option})'
                raise ValueError(f'{word} cannot be passed through{meant}: {instead}')
        if name.startswith('-c'):
            raise ValueError(f'{word} cannot be passed through: {OWN_OPTIONS["--config"]}')


def _variants(options: argparse.Namespace) -> tuple[Variant, ...]:
    """One variant for each mix mode or mask, with the mixing options that it has a use for."""
    dests = [action.dest for action in _variant_actions()]
    given = {dest: value for dest in dests if (value := getattr(options, dest)) is not None}
    option, asked, names = '--mix-mode', '--modes', options.modes or PAPER_MODES
    colours = {name: mode.colour for name, mode in mix_modes().items()}
    if options.cutmix_modes:
        option, asked, names = '--cutmix-mode', '--cutmix-modes', options.cutmix_modes
        colours = {name: family.colour for name, family in FAMILIES.items()}
    variants = []
    for name, own in share_options(given, option[2:].replace('-', '_'), names, asked).items():
        words = [word for dest, value in own.items() for word in (f'--{dest.replace("_", "-")}', value) if word]
        variants.append(Variant(name, colours[name], (option, name, *words), changed=bool(own)))
    return tuple(variants)


def _check_data_given(comparison: Comparison) -> None:
    """Raises ValueError where nothing says what to train on."""
    data_dir = comparison.training.get('data_dir') or comparison.training.get('data')
    if not data_dir and not comparison.training['dataset'].startswith('hfds/'):
        raise ValueError(f'recipe {comparison.recipe.stem} needs data: give its folder with --data-dir')


def _torchrun(options: argparse.Namespace) -> tuple[str, ...]:
    given = {option: value for option in TORCHRUN_OPTIONS if (value := _value(options, option)) is not None}
    if given and options.jobs > 1:
        raise ValueError(f'--jobs {options.jobs} cannot go with {next(iter(given))}: that run has the machine alone')
    words = [f'{option}={value}' for option, value in given.items()]
    # alone on its machine a run takes any free port, so that it does not meet another one's
    return tuple(['--standalone', *words] if set(given) == {'--nproc-per-node'} else words)


def _node_rank(options: argparse.Namespace) -> int:
    rank = options.node_rank or '0'
    if not rank.isdecimal():
        raise ValueError(f'--node-rank {rank}: not a whole number from 0 on')
    if options.nnodes not in (None, '1') and options.node_rank is None and not options.dry_run:
        raise ValueError(f'--nnodes {options.nnodes} needs --node-rank: machine 0 writes the results')
    return int(rank)
