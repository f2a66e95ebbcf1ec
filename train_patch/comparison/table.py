"""Tables of runs that are there, whoever trained them and wherever they lie now: `hmix-compare --table DIR …`."""

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from hmix_timm.families import FAMILIES
from hmix_timm.modes import mix_modes

from ..common.errors import RunError, WrongArguments
from ..mixing.asked import TIMMS
from ..trainer.output import read_table
from .comparison import RECORD, row_of
from .paper import papers_numbers
from .reading import RunResult, differences, read_arguments, read_run
from .results import Results, Row, check_baselines

Found = dict[Path, dict[str, Any]]
"""Runs: folder → arguments."""


def read_results(options: argparse.Namespace) -> list[Results]:
    """Reads all runs below folders, one `Results` for each recipe.

    Args:
        options: `table`, the folders: what lies below a comparison's folder is a recipe under its name, with
            as much of its path as tells it from others; if there is one recipe at most, all other runs belong to it.
            `metric`, `last`, `baseline` and `holm` of the command.

    Raises:
        WrongArguments: a folder is missing or holds no run, or no run has the metric or baseline.
        RunError: an args.yaml or a comparison.yaml is damaged.
    """
    recipes: dict[Path, Found] = defaultdict(dict)
    for word in options.table:
        files = sorted(Path(word).resolve().rglob('args.yaml'))
        if not files:
            raise WrongArguments(f'--table {word}: there is no run in it, a folder with an args.yaml')
        for file in files:
            arguments = {'seed': 0, **read_arguments(file)}
            arguments['data_dir'] = str(arguments.pop('data', None) or arguments.get('data_dir') or '')
            # Path() is the place of runs of no comparison
            place = next((folder for folder in file.parents if (folder / RECORD).exists()), Path())
            recipes[place][file.parent] = arguments
    _name_data({folder: arguments for found in recipes.values() for folder, arguments in found.items()})
    if len(recipes) == 2 and Path() in recipes:
        others = recipes.pop(Path())
        next(iter(recipes.values())).update(others)
    several = [_results(_name(folder, recipes), found, options) for folder, found in recipes.items()]
    runs = [run for results in several for run in results.runs]
    if options.metric and not any(run.curve for run in runs):
        columns = next(iter(read_table(runs[0].folder / 'summary.csv').values()), {})
        raise WrongArguments(f'--metric {options.metric}: no run has this column; there are {", ".join(columns)}')
    check_baselines(options.baseline, [row for results in several for row in results.rows])
    return several


def _name_data(runs: Found) -> None:
    """Calls data by the name of their folder, for a moved data set is the same by another path.

    Where several folders of one name are on this machine, they are not the same, and have their whole paths.
    """
    data = {folder: Path(arguments['data_dir']) for folder, arguments in runs.items()}
    here: dict[Path, Path] = {}
    for folder, path in data.items():  # it may be relative to the folder where training was started
        if there := [parent for parent in folder.parents if path.name and (parent / path).exists()]:
            here[folder] = (there[0] / path).resolve()
    names = [name for name, _ in {(data[folder].name, path) for folder, path in here.items()}]
    for folder, path in data.items():
        runs[folder]['data_dir'] = str(here.get(folder, path)) if names.count(path.name) > 1 else path.name


def _name(folder: Path, folders: Iterable[Path]) -> str:
    """As much of the end of its path as tells a folder from the others; 'runs' for `Path()`."""
    ends = (folder.parts[-count:] for count in range(1, len(folder.parts) + 1))
    alone = (end for end in ends if [other.parts[-len(end) :] for other in folders].count(end) == 1)
    return str(Path(*next(alone, ['runs'])))


def _results(name: str, found: Found, options: argparse.Namespace) -> Results:
    rows = _rows(found)
    read = [_read(folder, rows[folder].name, found[folder], options) for folder in found]
    read.sort(key=lambda run: -run.done / (run.epochs or 1))  # of runs that are there twice, the one further on counts
    metric = next((run.metric for run in read if run.state == 'finished'), '')
    firsts: dict[str, RunResult] = {}
    seeds: dict[tuple[str, int], RunResult] = {}
    runs = []
    for run in read:
        first, twin = firsts.setdefault(run.variant, run), seeds.setdefault((run.variant, run.seed), run)
        ignored = {'seed', 'device', 'mix_mode', 'mix_preset'}  # no mixing may be a mode, or no mode
        unlike = differences(first.arguments, run.arguments, ignored)
        said = [f'{key} is {other!r} in seed {first.seed}, and {own!r} here' for key, (other, own) in unlike.items()]
        said += [f'it has {run.metric} and not {metric}'] * (run.state == 'finished' and run.metric != metric)
        said += [f'{twin.folder} has the same seed'] * (twin is not run)
        runs.append(replace(run, problem=f'left out: {", ".join(said)}') if said else run)
    places = {mode: place for place, mode in enumerate(mix_modes())}
    ordered = sorted(dict.fromkeys(rows.values()), key=lambda row: places.get(row.mode.split()[0], len(places)))
    record = next(filter(None, map(_record, found)), {})
    images, processes = record.get('images'), prod(int(word.partition('=')[2]) for word in record.get('processes', ()))
    launched = {run.variant: run.arguments for run in runs if run.state == 'finished' and _record(run.folder)}
    paper = papers_numbers(launched, images, processes)
    return Results(name, ordered, runs, options.baseline, images, options.last, options.holm, paper)


def _read(folder: Path, name: str, arguments: Mapping[str, Any], options: argparse.Namespace) -> RunResult:
    """Reads a run; one whose files are damaged has failed, and costs no other."""
    try:
        return read_run(folder, name, arguments, options.metric, options.last)
    except RunError as error:
        return RunResult(name, arguments['seed'], {}, arguments=arguments, folder=folder, problem=str(error))


def _record(folder: Path) -> dict[str, Any]:
    """What the comparison that trained a run says of all its runs; {} of any other run."""
    return read_arguments(folder.parents[1] / RECORD) if re.fullmatch(r'seed\d+', folder.name) else {}


def _rows(found: Found) -> dict[Path, Row]:
    """The row of each run: a comparison's own, else how it mixes and in what it differs from others that mix so."""
    colours = {name: one.colour for table in (FAMILIES, mix_modes()) for name, one in table.items()}
    rows: dict[Path, Row] = {}
    alike: dict[str, Found] = defaultdict(dict)
    for folder, arguments in found.items():
        if _record(folder):
            rows[folder] = row_of(folder.parent.name, colours)
        else:
            alike[_mixing(arguments)][folder] = arguments
    for mode, others in alike.items():
        first = next(iter(others.values()))
        ignored = {'seed', 'device', *(TIMMS if first.get('mix_mode') else ())}
        varied = sorted({key for other in others.values() for key in differences(first, other, ignored)})
        for folder, arguments in others.items():
            settings = tuple((key, _text(arguments.get(key))) for key in varied)
            rows[folder] = Row(mode, settings, colours.get(mode.split()[0], Row.colour))
    return rows


def _mixing(arguments: Mapping[str, Any]) -> str:
    """The mix mode of a run; 'mixup 0.8 + cutmix 1' for one with timm's options alone."""
    slots = {
        'mixup': arguments.get('mixup'),
        arguments.get('cutmix_mode') or 'cutmix': arguments.get('cutmix_minmax') or arguments.get('cutmix'),
    }
    own = ' + '.join(f'{name} {_text(value)}' for name, value in slots.items() if value)
    return arguments.get('mix_mode') or own or 'none'


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ','.join(map(_text, value))
    return f'{value:g}' if isinstance(value, float) else str(value)
