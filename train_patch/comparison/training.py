"""Training what is not finished, a number of runs at once."""

import os
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from ..trainer.checkpoints import holds_run
from .checks import Prospect, message_of
from .plan import Comparison
from .processes import Process, end_all, holding_signals, start_training
from .results import Failure, RunResult
from .runs import Run, all_runs

POLL_SECONDS = 0.1
READ_SECONDS = 1.0
THREADS = 'OMP_NUM_THREADS'
GPUS = 'CUDA_VISIBLE_DEVICES'

Environment = Mapping[str, str]


@dataclass
class Outcome:
    """How the runs of a comparison ended.

    Args:
        results: of the finished runs.
        failures: of those that were started and did not come to their end.
        stopped: why no more of them were started; empty where all were.
    """

    results: list[RunResult] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stopped: str = ''


class Table:
    """Follows how many epochs a `summary.csv` holds, reading it only when it changed and not too often."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.epochs = run.epochs_done()
        self._seen = self._state()
        self._read_at = time.monotonic()

    def _state(self) -> tuple[int, ...]:
        try:
            stat = self.run.summary.stat()
        except FileNotFoundError:
            return ()
        return stat.st_ino, stat.st_size, stat.st_mtime_ns  # a clock that was set back changes the time, too

    def look(self, now: float | None = None) -> None:
        """Reads the table if it changed and was not read within the last second.

        Args:
            now: the time; None if it must be read now if it changed.
        """
        if now is not None and now < self._read_at + READ_SECONDS:
            return
        state = self._state()
        if state != self._seen:
            self._seen, self._read_at = state, time.monotonic()
            self.epochs = self.run.epochs_done()


class EpochWatch:
    """Measures seconds per epoch from when the rows of `summary.csv` appear: training, validation and checkpoint.

    The time before the first row is left out: it holds the start of the process and of the loader's workers.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[int, float]] = []

    def see(self, epochs: int, now: float) -> None:
        """Notes how many epochs are done by now."""
        if not self._seen or epochs != self._seen[-1][0]:
            self._seen.append((epochs, now))

    def epoch_seconds(self) -> float | None:
        """Seconds per epoch; None where fewer than two rows appeared."""
        if len(self._seen) < 3:
            return None
        (first, start), (last, end) = self._seen[1], self._seen[-1]
        return (end - start) / (last - first)


class Job:
    """A run that is being trained.

    Args:
        run: the run.
        environment: variables set for it alone.
        lock: for its process to inherit.
    """

    def __init__(self, run: Run, environment: Environment, lock: IO[str]) -> None:
        self.run = run
        self.environment = environment
        self.fresh = not holds_run(run.folder)
        run.prepare()
        command = run.command(environment)
        with run.log.open('a') as log:
            log.write(f'$ {shlex.join(command)}\n')
        self._log_start = run.log.stat().st_size
        self.table = Table(run)
        self._watch = EpochWatch()
        self.process: Process = start_training(command, run.log, lock)

    def look(self) -> bool:
        """Looks at how far it is; returns whether it has ended."""
        ended = self.process.poll() is not None
        now = time.monotonic()
        self.table.look(None if ended else now)
        self._watch.see(self.table.epochs, now)
        return ended

    def outcome(self, prospect: Prospect) -> RunResult | Failure | None:
        """What came of it, after its end; None on a machine that does not keep the books."""
        run, status = self.run, self.process.returncode
        if status != 0:
            kind = f'exit status {status}' if status > 0 else f'signal {-status}'
            return self._failure(f'{kind}: {message_of(self._said())}')
        if run.comparison.node_rank:
            return None
        facts = dict(
            epoch_seconds=self._watch.epoch_seconds(),
            validation_images=prospect.validation_images,
            jobs=run.comparison.jobs,
            threads=_threads(run.comparison, self.environment),
        )
        finished = run.finish(prospect.epochs, facts)
        return finished if isinstance(finished, RunResult) else self._failure(finished)

    def _failure(self, reason: str) -> Failure:
        return Failure(self.run.variant.name, self.run.seed, reason, self.run.log)

    def ended_at_its_start(self, failure: Failure) -> bool:
        """Whether it ended by itself in its first epoch or before, from the beginning on, other than by diverging."""
        by_itself = self.process.returncode > 0 and failure.kind == 'failed'
        later = any(int(epoch) for epoch in re.findall(r'^Train: (\d+) ', self._said(), re.MULTILINE))
        return self.fresh and by_itself and not later and self.table.epochs == 0

    def _said(self) -> str:
        """Its output of this time."""
        with self.run.log.open('rb') as file:
            file.seek(self._log_start)
            return file.read().decode(errors='replace')


def train_all(comparison: Comparison, prospect: Prospect, parts: Sequence[Environment], lock: IO[str]) -> Outcome:
    """Trains what is not finished, as many runs at a time as there are parts of the machine.

    A run that fails is named and the others go on, but where the first one does not get beyond its first epoch: what
    stopped it would stop them all.

    Args:
        comparison: what to train.
        prospect: what is known of the runs before.
        parts: what `environments` gave.
        lock: of the folder, for the training processes to inherit.
    """
    from tqdm import tqdm

    # looked up before any training, so that all machines of a run skip the same
    runs = all_runs(comparison)
    finished = {run.name: result for run in runs if (result := run.result()) is not None}
    waiting = [run for run in runs if run.name not in finished]
    epochs = {run.name: run.epochs_done() for run in runs}
    outcome = Outcome(list(finished.values()))
    free = list(parts)
    jobs: list[Job] = []
    with tqdm(
        total=prospect.epochs * len(runs),
        initial=sum(epochs.values()),
        unit='epoch',
        dynamic_ncols=True,
        mininterval=0.5 if sys.stderr.isatty() else 10,  # a log file gets every state as a line of its own
    ) as bar:
        if finished:
            bar.write(f'{len(finished)} of {len(runs)} runs are finished already')
        try:
            while waiting or jobs:
                while waiting and free:
                    with holding_signals():
                        jobs.append(Job(waiting.pop(0), free.pop(0), lock))
                    names = ', '.join(job.run.name for job in jobs)
                    bar.set_description(f'{names} ({len(runs) - len(waiting)}/{len(runs)})')
                time.sleep(POLL_SECONDS)
                ended = [job for job in jobs if job.look()]
                epochs |= {job.run.name: job.table.epochs for job in jobs}
                bar.update(sum(epochs.values()) - bar.n)
                for job in ended:
                    jobs.remove(job)
                    free.append(job.environment)
                    came = job.outcome(prospect)
                    if isinstance(came, RunResult):
                        outcome.results.append(came)
                        bar.write(f'{job.run.name}: top-1 {came.top1:.2f} %')
                    elif came is not None:
                        outcome.failures.append(came)
                        bar.write(f'failed: {came}', file=sys.stderr)
                        if job.ended_at_its_start(came) and not any(epochs.values()):
                            outcome.stopped = f'{job.run.name} did not get beyond its start, and nor would the others'
                            return outcome
        finally:
            end_all(job.process for job in jobs)
    return outcome


def environments(comparison: Comparison) -> list[Environment]:
    """For each run that is trained at once, the variables that give it its part of this machine.

    Raises:
        ValueError: there are fewer GPUs than runs at once.
    """
    if comparison.jobs == 1:
        # one thread for the digits: more gain nothing on so small a network, and take the core that the loader needs
        return [{THREADS: '1'} if comparison.on_digits and THREADS not in os.environ else {}]
    device = str(comparison.training.get('device') or 'cuda')
    if ':' in device:
        raise ValueError(f'--device {device} is one device; with --jobs {comparison.jobs} each run has one of its own')
    gpus = _gpus() if device == 'cuda' else []
    return shares(comparison.jobs, gpus, len(os.sched_getaffinity(0)), threads=os.environ.get(THREADS))


def shares(jobs: int, gpus: Sequence[str], cores: int, threads: str | None = None) -> list[Environment]:
    """Parts a machine among runs.

    Args:
        jobs: how many runs.
        gpus: names of the GPUs, as in `CUDA_VISIBLE_DEVICES`; empty to train on the CPU.
        cores: number of cores.
        threads: how many threads each run has, where the user has said so.

    Returns:
        Environment variables for each run: an equal share of the cores, and a GPU of its own where there are any.

    Raises:
        ValueError: there are fewer GPUs than runs.
    """
    if gpus and len(gpus) < jobs:
        raise ValueError(f'--jobs {jobs}: each run has a GPU of its own, and there are {len(gpus)} here')
    share = {THREADS: threads or str(max(1, cores // jobs))}
    return [share | ({GPUS: gpus[job]} if gpus else {}) for job in range(jobs)]


def _gpus() -> list[str]:
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get(GPUS, '').split(',') if name]
    return named[:count] if named else [str(number) for number in range(count)]


def _threads(comparison: Comparison, environment: Environment) -> int:
    """How many threads torch computes with in a process of a run."""
    set_to = environment.get(THREADS) or os.environ.get(THREADS)
    if set_to:
        return int(set_to)
    if comparison.processes:
        return 1  # torchrun's own choice
    import torch

    return torch.get_num_threads()
