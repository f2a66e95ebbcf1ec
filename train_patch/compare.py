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

import shlex
import signal
import sys

from .common.command import check_output, require_packages
from .common.errors import wrong_arguments
from .common.start import command
from .comparison.comparison import Comparison
from .comparison.guard import locked, noting_signals
from .comparison.jobs import environments, train_all
from .comparison.report import write_picture, write_report
from .comparison.request import DIGITS_RECIPE, build_parser, read_comparison
from .comparison.training_arguments import look_ahead
from .data.digits import digits_folder
from .mixing import load_mix_families
from .recipes.reader import read_recipe


@command('hmix-compare')
def main(argv: list[str]) -> int:
    """Runs a comparison.

    Returns:
        Exit status: 0, 1 if a run failed, or 128 + the number of the signal that stopped it.
    """
    if not argv or argv[0].startswith('-'):
        argv = [str(DIGITS_RECIPE), *argv]
    with wrong_arguments():
        load_mix_families(argv, read_recipe(argv[0]))  # their names are among the choices
        options, passed = build_parser().parse_known_args(argv)
        comparison = read_comparison(options, passed)
    return _print_launch_lines(comparison) if options.dry_run else _compare(comparison)


def _print_launch_lines(comparison: Comparison) -> int:
    """Prints one line per unfinished run; remarks go to standard error."""
    environment = environments(comparison)[0]
    if not look_ahead(comparison, prepare=None):
        print('# the data are not on this machine yet, so they were not checked', file=sys.stderr)
    comparison.check_folder()
    for run in comparison.runs:
        if run.result() is None:
            print(shlex.join(run.command(environment)))
        else:
            print(f'# {run.name} is finished', file=sys.stderr)
    return 0


def _compare(comparison: Comparison) -> int:
    """Trains, and writes the results."""
    check_output('--output', comparison.output / 'results.md')
    require_packages('matplotlib', 'scipy', 'tqdm')
    parts = environments(comparison)
    look_ahead(comparison, digits_folder if comparison.on_digits else lambda: None)
    comparison.output.mkdir(parents=True, exist_ok=True)
    with locked(comparison.output / '.lock') as lock, noting_signals() as signals:
        comparison.check_folder()
        comparison.claim_folder()
        train_all(comparison, parts, lock, signals)
        if not (signals or comparison.stopped):
            print(write_report(comparison), flush=True)
            if picture := write_picture(comparison):  # last: a plot that fails costs no table
                print(picture)
    if signals:
        name = signal.Signals(signals[0]).name
        print(f'\nhmix-compare: stopped by {name}; the same command resumes it', file=sys.stderr)
        return 128 + signals[0]
    if comparison.stopped:
        print(f'stopped: {comparison.stopped}', file=sys.stderr)
    return 1 if comparison.failures else 0


if __name__ == '__main__':
    sys.exit(main())
