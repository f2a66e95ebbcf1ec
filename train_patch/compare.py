"""The paper's comparison in one command: one recipe, every mix mode, several seeds, one table.

    hmix-compare                                                        # handwritten digits, minutes on a CPU
    hmix-compare recipe.yaml --data-dir /data --modes none hmix gmix --seeds 0 1 2 --output DIR
    hmix-compare cifar100_resnet56 --data-dir data --dataset-download --jobs 8          # eight runs at a time
    hmix-compare imagenet_resnet50 --data-dir /imagenet --nproc-per-node 8 --script path/to/timm/train.py
    hmix-compare imagenet_resnet50 --data-dir /imagenet --nproc-per-node 8 --dry-run    # launch lines for a cluster

Each mode and seed is a training process of its own, in `DIR/<mode>/seed<k>/`: what timm writes there, its output in
`train.log`, and `finished.json` once the last epoch is done. Called again with the same arguments, finished runs stay
as they are and an interrupted one is resumed; modes and seeds may be added. DIR gets `results.md`, `results.csv` and
`results.png`.
"""

import importlib.util
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from .common.command import check_output
from .common.errors import RunError
from .common.files import first_line
from .comparison.checks import look_ahead
from .comparison.plan import DIGITS_RECIPE, Comparison, build_parser, read_comparison
from .comparison.processes import FolderInUse, handling_signals, locked
from .comparison.report import write_report
from .comparison.runs import all_runs, check_same_comparison, claim_folder
from .comparison.training import Environment, environments, train_all
from .data.digits import digits_folder
from .mixing import load_mix_families
from .recipes.reader import read_recipe

UNCHECKED = 'the data are not on this machine or not downloaded yet, so they were not checked'


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a comparison.

    Args:
        argv: command line without the program's name; `sys.argv[1:]` if None.

    Returns:
        Exit status: 0, or 1 where a run failed. A wrong command line and a folder in use end with 2.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith('-'):
        argv = [str(DIGITS_RECIPE), *argv]
    try:
        load_mix_families(argv, read_recipe(argv[0]))  # their names are among the choices
        options, passed = build_parser().parse_known_args(argv)
        with handling_signals(_end_on_signal):
            comparison = read_comparison(options, passed)
            if options.dry_run:
                _print_launch_lines(comparison, environments(comparison))
                return 0
            _require_demo_packages()
            return _compare(comparison, environments(comparison))
    except (ValueError, FolderInUse, ModuleNotFoundError) as error:
        _end(2, error)
    except RunError as error:
        _end(error.status, error)
    except OSError as error:
        _end(1, f'{error.filename}: {first_line(error)}' if error.filename else first_line(error))


def _end(status: int, error: object) -> NoReturn:
    print(f'hmix-compare: error: {error}', file=sys.stderr)
    raise SystemExit(status)


def _require_demo_packages() -> None:
    missing = [name for name in ('matplotlib', 'scipy', 'tqdm') if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f"{' and '.join(missing)} not installed: pip install 'hmix-timm[demo]'")


def _end_on_signal(number: int, frame: object) -> NoReturn:
    """Lets a signal run through the `finally` blocks, which end the training processes too."""
    name = signal.Signals(number).name
    print(f'\nhmix-compare: stopped by {name}; the same command resumes it', file=sys.stderr)
    raise SystemExit(128 + number)


def _print_launch_lines(comparison: Comparison, parts: Sequence[Environment]) -> None:
    """One line per run that is not finished, on standard output; remarks go to standard error."""
    if look_ahead(comparison.training, comparison.script, bool(comparison.torchrun), prepare=None) is None:
        missing = 'the digits are not there yet; a comparison without --dry-run writes them'
        print('#', missing if comparison.on_digits else UNCHECKED, file=sys.stderr)
    check_same_comparison(comparison)
    for run in all_runs(comparison):
        if run.result() is None:
            print(shlex.join(run.command(parts[0])))
        else:
            print(f'# {run.name} is finished', file=sys.stderr)


def _compare(comparison: Comparison, parts: Sequence[Environment]) -> int:
    check_output('--output', comparison.output / 'results.md')
    prepare = digits_folder if comparison.on_digits else lambda: None
    prospect = look_ahead(comparison.training, comparison.script, bool(comparison.torchrun), prepare)
    assert prospect is not None
    comparison.output.mkdir(parents=True, exist_ok=True)
    leads = comparison.node_rank == 0
    with locked(comparison.output / ('.lock' if leads else f'.lock-node{comparison.node_rank}')) as lock:
        if leads:
            check_same_comparison(comparison)
            claim_folder(comparison)
        outcome = train_all(comparison, prospect, parts, lock)
        if leads and not outcome.stopped and (outcome.results or outcome.failures):
            print(write_report(comparison, outcome))
    if outcome.stopped:
        print(f'stopped: {outcome.stopped}', file=sys.stderr)
    return 1 if outcome.failures else 0


if __name__ == '__main__':
    sys.exit(main())
