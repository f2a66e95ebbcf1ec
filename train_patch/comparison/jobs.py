"""Trains the unfinished runs of a comparison, several at once."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO

from ..common.errors import WrongArguments
from ..common.processes import end_child_with_parent
from ..trainer.checkpoints import holds_run
from .comparison import Comparison, Run
from .guard import end_all
from .reading import RunResult
from .results import TITLES
from .training_arguments import error_message

POLL_SECONDS = 0.1
THREADS = 'OMP_NUM_THREADS'
GPUS = 'CUDA_VISIBLE_DEVICES'

Environment = Mapping[str, str]


class Job:
    """A run in training.

    If this process is killed, Linux ends the training process; elsewhere the inherited lock tells the next comparison
    that it is still there.

    Args:
        run: the run.
        environment: variables set for it alone.
        lock: what `locked` yielded, for its process to inherit.
    """

    def __init__(self, run: Run, environment: Environment, lock: IO[str]) -> None:
        self.run = run
        self.environment = environment
        run.prepare()
        self.epochs = run.epochs_done()
        command = run.command(environment)
        with run.log.open('ab', buffering=0) as log:
            log.write(f'$ {shlex.join(command)}\n'.encode())
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C reaches the comparison alone, which then ends the whole group
                preexec_fn=end_child_with_parent(),
            )

    def has_ended(self) -> bool:
        """Whether its process has ended. Also counts the epochs in its table."""
        ended = self.process.poll() is not None
        self.epochs = max(self.epochs, self.run.epochs_done())
        return ended

    def outcome(self) -> RunResult:
        """The result of a run whose process has ended."""
        status = self.process.returncode
        kind = f'exit status {status}' if status > 0 else f'signal {-status}'
        output = self.run.log.read_bytes()[self._log_start :].decode(errors='replace')  # without an earlier process's
        return self.run.finish(f'{kind}: {error_message(output)}' if status else '')


def train_all(comparison: Comparison, parts: Sequence[Environment], lock: IO[str], signals: Sequence[int]) -> None:
    """Trains the unfinished runs, and puts results and failures into the comparison.

    A failed run is named and the others are trained, unless no run has ever finished an epoch: its reason would end
    the others, too.

    Args:
        comparison: what to train.
        parts: of the machine, from `environments`; as many runs are trained at once.
        lock: of the folder, for the training processes to inherit.
        signals: from `noting_signals`; the first one ends all runs.
    """
    from tqdm import tqdm

    reads = [(run, run.read()) for run in comparison.runs]
    comparison.results = [read for _, read in reads if read.state == 'finished']
    waiting = [run for run, read in reads if read.state != 'finished']
    epochs = {run.name: run.epochs_done() for run, _ in reads}
    fresh = not any(holds_run(run.folder) for run, _ in reads)
    free, jobs = list(parts), list[Job]()
    with tqdm(
        total=sum(read.epochs for _, read in reads),
        initial=sum(epochs.values()),
        unit='epoch',
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 10,  # in a log file, each update is a line of its own
    ) as bar:
        if comparison.results:
            bar.write(f'{len(comparison.results)} of {len(reads)} runs are finished already')
        try:
            while (waiting or jobs) and not (comparison.stopped or signals):
                while waiting and free:
                    jobs.append(Job(waiting.pop(0), free.pop(0), lock))
                    names = ', '.join(job.run.name for job in jobs)
                    bar.set_description(f'{names} ({len(reads) - len(waiting)}/{len(reads)})')
                time.sleep(POLL_SECONDS)
                ended = [job for job in jobs if job.has_ended()]
                epochs |= {job.run.name: job.epochs for job in jobs}
                bar.update(sum(epochs.values()) - bar.n)
                for job in ended:
                    jobs.remove(job)
                    free.append(job.environment)
                    outcome = job.outcome()
                    comparison.results.append(outcome)
                    if outcome.state == 'finished':
                        name, unit = TITLES.get(outcome.metric, outcome.metric).partition(' (%)')[:2]
                        bar.write(f'{job.run.name}: {name} {outcome.value:.2f}' + ' %' * bool(unit))
                        continue
                    bar.write(f'failed: {outcome}', file=sys.stderr)
                    if fresh and outcome.state != 'diverged' and not any(epochs.values()):
                        comparison.stopped = f'{job.run.name} ended in its first epoch, and so would the others'
        finally:
            end_all(job.process for job in jobs)


def environments(comparison: Comparison) -> list[Environment]:
    """Shares this machine among the runs that are trained at once.

    Returns:
        Environment variables for each: an equal share of the cores, unless the user has set the number of threads,
        and a GPU of its own if there are any. Runs on the digits have one thread: their network is too small for two,
        and so their numbers are the same on any number of cores. Without --jobs each core trains one of them, of one
        seed at most; all other runs train one by one.

    Raises:
        WrongArguments: there are fewer GPUs than runs.
    """
    options, device = comparison.options, str(comparison.training.get('device') or 'cuda')
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1  # macOS has none
    light = comparison.on_digits and device == 'cpu' and not options.nproc_per_node
    jobs = options.jobs or (min(cores, len(comparison.variants)) if light else 1)
    if jobs > 1 and ':' in device:
        raise WrongArguments(f'--device {device} is one device; with --jobs {jobs} each run has one of its own')
    gpus = _gpus() if jobs > 1 and device == 'cuda' else []
    if gpus and len(gpus) < jobs:
        raise WrongArguments(f'--jobs {jobs}: each run has a GPU of its own, and there are {len(gpus)} here')
    threads = 1 if comparison.on_digits else max(1, cores // jobs) if jobs > 1 else None
    share = {THREADS: str(threads)} if threads and THREADS not in os.environ else {}
    return [share | ({GPUS: gpus[job]} if gpus else {}) for job in range(jobs)]


def _gpus() -> list[str]:
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(GPUS, '').split(',') if name]
    return named[:count] if named else [str(number) for number in range(count)]
