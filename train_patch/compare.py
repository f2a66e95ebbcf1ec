"""The paper's comparison in one command: one recipe, every mix mode, several seeds, one table.

    hmix-compare                                                        # handwritten digits, minutes on a CPU
    hmix-compare recipe.yaml --data-dir /data --modes none hmix gmix --seeds 0 1 2 --output DIR
    hmix-compare cifar100_resnet56 --data-dir data --dataset-download --jobs 8          # eight runs at a time
    hmix-compare imagenet_resnet50 --data-dir /imagenet --nproc-per-node 8 --script path/to/timm/train.py
    hmix-compare imagenet_resnet50 --data-dir /imagenet --nproc-per-node 8 --dry-run    # launch lines for a cluster
    hmix-compare --modes none hmix --vary hmix_ratio=0.25,0.5,0.75                      # settings of a mode
    hmix-compare --table comparison/digits timm/output                                  # runs that are there
    hmix-compare --evaluate fgsm pgd corruption calibration                             # robustness beside top-1

Each mode, setting and seed is a training process of its own, in `DIR/<mode and settings>/seed<k>/`: what timm writes
there, and its output in `train.log`. Called again with the same arguments, finished runs stay as they are and an
interrupted one is resumed; modes and seeds may be added. DIR gets `results.md`, `results.csv` and `results.png`.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence

from .common.command import check_output, require_packages
from .common.errors import WrongArguments, wrong_arguments
from .common.processes import noting_signals
from .common.start import command
from .comparison.comparison import Comparison
from .comparison.evaluation import evaluate_all
from .comparison.guard import locked
from .comparison.jobs import environments, train_all
from .comparison.report import collect, left_out, screen_text, settings, table_text, write_pictures, write_report
from .comparison.request import DIGITS_RECIPE, build_parser, read_comparison
from .comparison.submit import has_job, submit
from .comparison.table import read_results
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
        if options.table:
            return _tabulate(options, passed)
        comparison = read_comparison(options, passed)
    return _print_launch_lines(comparison) if options.dry_run else _compare(comparison)


def _tabulate(options: argparse.Namespace, passed: Sequence[str]) -> int:
    """Prints the table of runs that are there; with --output it is written, too."""
    parser = build_parser()
    taken = {'recipe', 'table', 'format', 'metric', 'last', 'baseline', 'holm', 'output', 'evaluate', 'attack_eps'}
    taken |= {'evaluate_images', *(['data_dir'] if options.evaluate else [])}
    given = [name for name, value in vars(options).items() if name not in taken and value != parser.get_default(name)]
    if given or passed or options.recipe != str(DIGITS_RECIPE):
        other = [*(f'--{name.replace("_", "-")}' for name in given), *passed, options.recipe][0]
        raise WrongArguments(f'--table reads runs and trains none; it cannot go with {other}')
    require_packages('scipy', *(('tqdm',) if options.evaluate else ()))
    several = [evaluate_all(results, options) for results in read_results(options)]
    print(screen_text(several) if options.format == 'md' else table_text(several, options.format))
    if options.format != 'md':
        print(*left_out(several), sep='\n', file=sys.stderr)
    if options.output:
        check_output('--output', options.output / 'results.md')
        write_report(several, options.output)
        if len(several) == 1:
            write_pictures(several[0], options.output)
    return 0


def _print_launch_lines(comparison: Comparison) -> int:
    """Prints one line per unfinished run, for any folder and machine; remarks go to standard error."""
    environments(comparison)  # refuses what training would
    if not look_ahead(comparison, prepare=None):
        print('# the data are not on this machine yet, so they were not checked', file=sys.stderr)
    comparison.check_folder()
    for run in comparison.runs:
        if run.read().state != 'finished':
            print(shlex.join(run.command({})))
        else:
            print(f'# {run.name} is finished', file=sys.stderr)
    return 0


def _compare(comparison: Comparison) -> int:
    """Trains, and writes the results; or submits what is to be trained."""
    check_output('--output', comparison.output / 'results.md')
    require_packages('matplotlib', 'scipy', 'tqdm')
    if comparison.options.submit:
        require_packages('submitit', extra='cluster')
    parts = environments(comparison)
    look_ahead(comparison, digits_folder if comparison.on_digits else lambda: None)
    comparison.output.mkdir(parents=True, exist_ok=True)
    with locked(comparison.output / '.lock') as lock, noting_signals() as signals:
        comparison.check_folder()
        comparison.claim_folder()
        if comparison.options.submit:
            print(submit(comparison))
            return 0
        if busy := [run.name for run in comparison.runs if has_job(run)]:
            raise WrongArguments(f'--output {comparison.output}: jobs train into it: {", ".join(busy)}')
        train_all(comparison, parts, lock, signals)
        if not (signals or comparison.stopped):
            results = evaluate_all(collect(comparison), comparison.options, signals)
        if not (signals or comparison.stopped):
            print(write_report([results], comparison.output, settings(comparison)), flush=True)
            # last: a plot that fails costs no table
            print(*write_pictures(results, comparison.output), sep='\n')
    if signals:
        name = signal.Signals(signals[0]).name
        print(f'\nhmix-compare: stopped by {name}; the same command resumes it', file=sys.stderr)
        return 128 + signals[0]
    if comparison.stopped:
        print(f'stopped: {comparison.stopped}', file=sys.stderr)
    return 1 if any(result.problem for result in comparison.results) else 0


if __name__ == '__main__':
    sys.exit(main())
