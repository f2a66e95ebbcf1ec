"""The paper's comparison in one command: one recipe, every mode, several seeds, one table.

    hmix-compare                                                        # handwritten digits, minutes on a CPU
    hmix-compare recipe.yaml --data-dir /data --modes none hmix gmix --seeds 0 1 2 --output DIR
    hmix-compare imagenet_resnet50 --data-dir /imagenet --nproc-per-node 8 --script path/to/timm/train.py
    hmix-compare imagenet_resnet50 --data-dir /imagenet --nproc-per-node 8 --dry-run    # launch lines for a cluster

Each mode and seed is a training process of its own, in `DIR/<mode>/seed<k>/`: what timm writes there, its output in
`train.log`, and `finished.json` once the last epoch is done. Called again with the same arguments, finished runs stay
as they are and an interrupted one is resumed; modes and seeds may be added. DIR gets `results.md`, `results.csv` and
`results.png`.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import yaml

from hmix_timm import Mixup
from hmix_timm.errors import RunError
from hmix_timm.presets import mix_modes

from .comparison.processes import FolderInUse, locked, training
from .comparison.results import (
    METRIC,
    RunResult,
    csv_table,
    markdown_table,
    plot_curves,
    read_summary,
    table,
    write_bytes,
)
from .comparison.runs import Comparison, Run, check_same_comparison
from .digits import digits_folder, digits_path
from .mixing import mode_uses, resolve, slot_arguments_from
from .recipes.files import RECIPE_FOLDER, find_recipe
from .recipes.published import PUBLISHED_TOP1, TABLES

DIGITS_RECIPE = RECIPE_FOLDER / 'digits.yaml'
TIMM_EPOCHS = 300  # timm's default
POLL_SECONDS = 0.1

# Training options that tell the runs apart or say where they lie → how to say that here.
OWN_OPTIONS = {
    '--mix-mode': '--modes says which modes to train',
    '--seed': '--seeds says which seeds to train with',
    '--output': '--output DIR holds all runs',
    '--experiment': '--output DIR holds all runs',
    '--resume': 'interrupted runs are resumed when the command is given again',
    '--config': 'the recipe is the first argument',
}
MIX_OPTIONS = ('--mix-alpha', '--hmix-ratio', '--hmix-gamma', '--gmix-kernel')
TORCHRUN_OPTIONS = (
    '--nproc-per-node',
    '--nnodes',
    '--node-rank',
    '--rdzv-backend',
    '--rdzv-endpoint',
    '--rdzv-id',
    '--rdzv-conf',
    '--master-addr',
    '--master-port',
)


def build_parser() -> argparse.ArgumentParser:
    """The options of hmix-compare itself; everything else is training's."""
    parser = argparse.ArgumentParser(
        prog='hmix-compare',
        usage='hmix-compare [RECIPE] [--modes MODE ...] [--seeds K ...] [--output DIR] [--script TRAIN.PY] [--dry-run] '
        '[--nproc-per-node N ...] [any training argument]',
        description='Train one recipe under every mode and several seeds, and print the table of the paper.',
        allow_abbrev=False,
    )
    parser.add_argument(
        'recipe', metavar='RECIPE', help='YAML file, or the name of a shipped recipe; must come first (default: digits)'
    )
    parser.add_argument(
        '--modes', nargs='+', choices=tuple(mix_modes()), default=tuple(mix_modes()), help='(default: all six)'
    )
    parser.add_argument('--seeds', nargs='+', type=_seed, default=[0, 1, 2], metavar='K', help='(default: 0 1 2)')
    parser.add_argument(
        '--output', type=Path, metavar='DIR', help='folder of all runs and results (default: comparison/<recipe>)'
    )
    parser.add_argument(
        '--script', type=Path, metavar='TRAIN.PY', help="timm's train.py to train with (default: this project's own)"
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='print one launch line per run that is not finished; train and write nothing',
    )
    group = parser.add_argument_group('mixing, for the modes that have a use for it')
    for option in MIX_OPTIONS:
        group.add_argument(option, metavar='X')
    group = parser.add_argument_group('many processes', "torchrun's options; one of them makes every run a torchrun")
    for option in TORCHRUN_OPTIONS:
        group.add_argument(option, '--' + option[2:].replace('-', '_'), metavar='X')
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0 on')
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a comparison.

    Args:
        argv: Command line without the program's name; `sys.argv[1:]` if None.

    Returns:
        Exit status: 0, or 1 where a run failed. A wrong command line and a folder in use end with 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith('-'):
        argv = [str(DIGITS_RECIPE), *argv]
    parser = build_parser()
    options, passed = parser.parse_known_args(argv)
    try:
        comparison = read_comparison(options, passed)
        if options.dry_run:
            _print_launch_lines(comparison)
            return 0
        _require_demo_packages()
        if comparison.data_arguments:
            digits_folder()
        with _ending_on_signals():
            return _compare(comparison)
    except (ValueError, FolderInUse, ModuleNotFoundError) as error:
        parser.exit(2, f'hmix-compare: error: {error}\n')
    except (RunError, OSError) as error:
        parser.exit(1, f'hmix-compare: error: {error}\n')


def read_comparison(options: argparse.Namespace, passed: Sequence[str]) -> Comparison:
    """Check the command line and the recipe.

    Args:
        options: From `build_parser()`.
        passed: The words that it did not know.

    Raises:
        ValueError: something is wrong; names the option and the value.
    """
    for option, values in (('--modes', options.modes), ('--seeds', options.seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f'{option} {" ".join(map(str, values))}: one is there twice')
    _check_passed(passed)
    recipe = find_recipe(options.recipe).resolve()
    settings = _read_recipe(recipe)
    if options.script is not None and not options.script.is_file():
        raise ValueError(f'--script {options.script}: no such file')
    mix_options = {option: value for option in MIX_OPTIONS if (value := _value(options, option)) is not None}
    for option in mix_options:
        if not any(mode_uses(mode, option[2:].replace('-', '_')) for mode in options.modes):
            raise ValueError(f'{option}: none of --modes {" ".join(options.modes)} has a use for it')
    for mode in options.modes:
        _check_mix_options(mode, mix_options)
    output = options.output if options.output is not None else Path('comparison', recipe.stem)
    data_arguments = _data_arguments(recipe, settings, passed, must_exist=not options.dry_run)
    return Comparison(
        recipe=recipe,
        settings=settings,
        modes=tuple(options.modes),
        seeds=tuple(options.seeds),
        output=output.absolute(),
        script=None if options.script is None else options.script.resolve(),
        torchrun=_torchrun(options),
        node_rank=_node_rank(options),
        mix_options=mix_options,
        data_arguments=data_arguments,
        environment=_environment() if data_arguments else (),
        arguments=tuple(passed),
    )


def _check_mix_options(mode: str, mix_options: Mapping[str, str]) -> None:
    """Raises ValueError for a value that every run of a mode would refuse."""
    given = {option.removeprefix('--').replace('-', '_'): value for option, value in mix_options.items()}
    used = {dest: value for dest, value in given.items() if mode_uses(mode, dest)}
    values = resolve({}, {'mix_mode': mode, **used})
    Mixup(0.0, 1.0, **slot_arguments_from(argparse.Namespace(**values)))


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
            if name.startswith('--') and option.startswith(name):
                raise ValueError(f'{word} cannot be passed through ({option}): {instead}')
        if re.match(r'-c', name):
            raise ValueError(f'{word} cannot be passed through: {OWN_OPTIONS["--config"]}')


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} cannot be read as YAML: {error}') from error
    if not isinstance(settings, dict):
        raise ValueError(f'{path} is not a recipe: it must hold "name: value" lines')
    return settings


def _peek(passed: Sequence[str]) -> argparse.Namespace:
    """The few training arguments that matter here too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--data-dir')
    parser.add_argument('--dataset')
    parser.add_argument('--epochs', type=int)
    return parser.parse_known_args(list(passed))[0]


def _data_arguments(
    recipe: Path, settings: Mapping[str, Any], passed: Sequence[str], must_exist: bool
) -> tuple[str, ...]:
    given = _peek(passed)
    data_dir = given.data_dir or settings.get('data_dir') or settings.get('data')
    dataset = given.dataset if given.dataset is not None else settings.get('dataset') or ''
    if not data_dir and recipe == DIGITS_RECIPE and not dataset:
        return ('--data-dir', str(digits_path()))
    if not data_dir and not dataset.startswith('hfds/'):
        raise ValueError(f'recipe {recipe.stem} needs data: give its folder with --data-dir')
    if must_exist and not dataset and not Path(str(data_dir)).is_dir():
        raise ValueError(f'--data-dir {data_dir}: no such folder')
    return ()


def _environment() -> tuple[str, ...]:
    """For the digits: one thread. More gain nothing on so small a network, and take the core that the loader needs."""
    return () if 'OMP_NUM_THREADS' in os.environ else ('env', 'OMP_NUM_THREADS=1')


def _torchrun(options: argparse.Namespace) -> tuple[str, ...]:
    given = {option: value for option in TORCHRUN_OPTIONS if (value := _value(options, option)) is not None}
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


def _require_demo_packages() -> None:
    missing = [name for name in ('matplotlib', 'tqdm') if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"{' and '.join(missing)} not installed: pip install 'hmix-timm[demo]'")


def _print_launch_lines(comparison: Comparison) -> None:
    """One line per run that is not finished, on standard output; remarks go to standard error."""
    if comparison.data_arguments and not digits_path().exists():
        print('# the digits are not there yet; a comparison without --dry-run writes them', file=sys.stderr)
    for run in comparison.runs():
        if run.result() is None:
            print(shlex.join(run.command()))
        else:
            print(f'# {run.name} is finished', file=sys.stderr)


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let the signals that end a program run through its `finally` blocks, which end the training process too."""

    def end(signum: int, frame: object) -> NoReturn:
        name = signal.Signals(signum).name
        print(f'\nhmix-compare: stopped by {name}; the same command goes on where it was', file=sys.stderr)
        raise SystemExit(128 + signum)

    handlers = {signum: signal.signal(signum, end) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _compare(comparison: Comparison) -> int:
    comparison.output.mkdir(parents=True, exist_ok=True)
    leads = comparison.node_rank == 0
    with locked(comparison.output / ('.lock' if leads else f'.lock-node{comparison.node_rank}')) as lock:
        if leads:
            check_same_comparison(comparison)
        results, failures = _train_all(comparison, lock)
        if leads and results:
            print(_report(comparison, results, failures))
    for failure in failures:
        print(f'failed: {failure}', file=sys.stderr)
    return 1 if failures else 0


def _train_all(comparison: Comparison, lock: IO[str]) -> tuple[list[RunResult], list[str]]:
    """Train what is not finished, one run after the other.

    Returns:
        The results of the finished runs, and a line for each that failed.
    """
    from tqdm import tqdm

    runs = comparison.runs()
    # looked up before any training, so that all machines of a run skip the same
    finished = {run.name: result for run in runs if (result := run.result()) is not None}
    progress = {run.name: _epochs_done(run) for run in runs}
    epochs = _peek(comparison.arguments).epochs or int(comparison.settings.get('epochs', TIMM_EPOCHS))
    results, failures = list(finished.values()), []
    with tqdm(
        total=epochs * len(runs),
        initial=sum(progress.values()),
        unit='epoch',
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 10,  # a log file gets every state as a line of its own
    ) as bar:
        if finished:
            bar.write(f'{len(finished)} of {len(runs)} runs are finished already')
        for number, run in enumerate(runs, 1):
            if run.name in finished:
                continue
            bar.set_description(f'{run.name} ({number}/{len(runs)})')

            def advance(run: Run = run) -> None:
                progress[run.name] = _epochs_done(run)
                bar.total = (run.epochs() or epochs) * len(runs)
                bar.update(sum(progress.values()) - bar.n)

            outcome = _train(run, lock, advance)
            if isinstance(outcome, RunResult):
                results.append(outcome)
                bar.write(f'{run.name}: top-1 {outcome.top1:.2f} %')
            elif outcome is not None:
                failures.append(f'{run.name}: {outcome}, see {run.log}')
                bar.write(f'failed: {failures[-1]}')
    return results, failures


def _epochs_done(run: Run) -> int:
    return max(read_summary(run.summary), default=-1) + 1


def _train(run: Run, lock: IO[str], advance: Callable[[], None]) -> RunResult | str | None:
    """Train one run to its end.

    Args:
        run: The run.
        lock: For the training process to inherit.
        advance: Called many times a second while it trains.

    Returns:
        Its result, what went wrong, or None on a machine that does not keep the books.
    """
    run.prepare()
    command = run.command()
    with run.log.open('a') as log:
        log.write(f'$ {shlex.join(command)}\n')
    started_at = run.log.stat().st_size
    watch = EpochWatch()
    with training(command, run.log, lock) as process:
        while process.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
            watch.see(_epochs_done(run))
            advance()
    if process.returncode != 0:
        status = f'exit status {process.returncode}' if process.returncode > 0 else f'signal {-process.returncode}'
        return f'{status}: {last_error(run.log, started_at)}'
    if run.comparison.node_rank:
        return None
    recorded = run.recorded_epoch_seconds()
    result = run.finish(watch.epoch_seconds() if recorded is None else recorded)
    return result or f'ended without {METRIC} for its last epoch in summary.csv'


class EpochWatch:
    """Measures seconds per epoch from when the rows of `summary.csv` appear: training, validation and checkpoint.

    The time before the first row is left out: it holds the start of the process and of the loader's workers.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[int, float]] = []

    def see(self, epochs: int) -> None:
        """Note how many epochs are done by now."""
        if not self._seen or epochs != self._seen[-1][0]:
            self._seen.append((epochs, time.monotonic()))

    def epoch_seconds(self) -> float | None:
        """Seconds per epoch; None where fewer than two rows appeared."""
        if len(self._seen) < 3:
            return None
        (first, start), (last, end) = self._seen[1], self._seen[-1]
        return (end - start) / (last - first)


def last_error(log: Path, start: int = 0) -> str:
    """The line of a log that says what went wrong: the last one that looks like an error, else the last one.

    Args:
        log: The log.
        start: Byte to read from.
    """
    with log.open('rb') as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors='replace').splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'([\w.]+(Error|Exception|Interrupt)\b|\S+: error:)', line)]
    return (errors or lines or ['no output'])[-1]


def _report(comparison: Comparison, results: Sequence[RunResult], failures: Sequence[str]) -> str:
    """Write `results.md`, `results.csv` and `results.png`.

    Returns:
        The table, with a line on what its numbers are, for the screen.
    """
    name = comparison.recipe.stem
    shipped = comparison.recipe.parent == RECIPE_FOLDER
    rows = table(results, comparison.modes, PUBLISHED_TOP1.get(name, {}) if shipped else {})
    epochs = sorted({max(result.curve) + 1 for result in results})
    explained = (
        f'Top-1 on the validation images after the last epoch ({" or ".join(map(str, epochs))}): mean ± sample '
        f'standard deviation over seeds {", ".join(map(str, comparison.seeds))}.\n'
        'Differences are in percentage points; the time of an epoch is that of training and validation.'
    )
    if any(row.published is not None for row in rows):
        explained += f'\nPublished: {TABLES[name]} of "A Unified Analysis of Mixed Sample Data Augmentation".'
    text = markdown_table(rows)
    settings = [f'- recipe: `{comparison.recipe}`']
    settings += [f'- script: `{comparison.script}`'] if comparison.script else []
    given = [*comparison.torchrun, *comparison.arguments, *(w for pair in comparison.mix_options.items() for w in pair)]
    settings += [f'- arguments: `{shlex.join(given)}`'] if given else []
    document = [f'# {name}: comparison of mixing modes', text, explained, '\n'.join(settings)]
    document += ['Failed:\n\n' + '\n'.join(f'- {failure}' for failure in failures)] if failures else []
    document += ['![validation curves](results.png)']
    for filename, content in (
        ('results.md', '\n\n'.join(document).encode() + b'\n'),
        ('results.csv', csv_table(rows, comparison.seeds).encode()),
        ('results.png', plot_curves(results, rows, f'{name}: mean ± standard deviation over seeds')),
    ):
        write_bytes(comparison.output / filename, content)
    return f'\n{text}\n\n{explained}\n\n{comparison.output / "results.md"}, results.csv, results.png'


if __name__ == '__main__':
    sys.exit(main())
