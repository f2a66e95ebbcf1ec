"""Hands the runs of a comparison over to a cluster, or to processes of this machine, by submitit: one job a run."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ..common.errors import RunError, WrongArguments
from ..common.files import first_line, write_json
from ..common.processes import end_child_with_parent, end_with_torchrun, raise_on_sigterm
from .comparison import Comparison, Run
from .guard import end_all
from .jobs import POLL_SECONDS

RECORD = 'submitted.json'
DEFAULTS = {'timeout_min': 1440, 'name': 'hmix', 'nodes': 1}
"""submitit's own limit is five minutes, on this machine two."""

MANY = 1000
"""How often Slurm may start a job again that came to its time limit; each time it has trained on."""


class TrainingJob:
    """What each task of a job does; submitit pickles it.

    A job that is preempted, or comes to its time limit, ends its training and is started again, and resumes it.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Trains the run, or goes on with it.

        Raises:
            RunError: training has failed; the message says why.
        """
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        job = JobEnvironment()
        if job.num_tasks > 1:
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        if job.cluster == 'local':
            os.environ['MASTER_ADDR'] = '127.0.0.1'  # a machine may not know its own name
            raise_on_sigterm()  # submitit would ignore it
            end_with_torchrun()  # and what is left of a job whose controller was killed would train on
        if job.global_rank == 0:
            self.run.prepare()
        with self.run.log.open('ab', buffering=0) as log:
            # signals to the job come to this process alone, which ends the training in its own time
            how: dict[str, Any] = {'start_new_session': True, 'preexec_fn': end_child_with_parent()}
            command = self.run.command({}, launcher=())
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **how)
            try:
                while (status := self.process.poll()) is None:  # waiting, `checkpoint` could not wait for it
                    time.sleep(POLL_SECONDS)
            finally:
                end_all([self.process])
        if status or job.global_rank == 0:  # which writes the table
            outcome = self.run.finish(f'exit status {status}' if status else '')
            if outcome.problem:
                raise RunError(str(outcome))

    def checkpoint(self) -> Any:
        """Called by submitit before the job is started again."""
        from submitit.helpers import DelayedSubmission

        end_all([self.process] if self.process else [])
        return DelayedSubmission(TrainingJob(self.run))


def job_parameters(given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of submitit's AutoExecutor; one task for each GPU of a node.

    Raises:
        WrongArguments: a value is no plain YAML, or a count is no whole number.
    """
    try:
        parameters = {key: yaml.safe_load(value) for key, value in given.items()}
    except yaml.YAMLError as error:
        raise WrongArguments(f'--submit-option {" ".join(str(error).split())}') from error
    for key in {'nodes', 'gpus_per_node', 'tasks_per_node'} & parameters.keys():
        if not isinstance(parameters[key], int):
            raise WrongArguments(f'--submit-option {key}={given[key]}: must be a whole number')
    return {**DEFAULTS, 'tasks_per_node': parameters.get('gpus_per_node') or 1, **parameters}


def submit(comparison: Comparison) -> str:
    """Submits the unfinished runs that no job is there for.

    Args:
        comparison: the runs, and where and how.

    Returns:
        What was done, for the screen.

    Raises:
        WrongArguments: submitit does not take an option, or there is no Slurm.
    """
    import submitit

    cluster, folder = comparison.options.submit, comparison.output / 'submitit'
    try:
        executor = submitit.AutoExecutor(folder=folder / '%j', cluster=cluster, slurm_max_num_timeout=MANY)
        executor.update_parameters(**comparison.options.submit_option)
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise WrongArguments(f'--submit {cluster}: {first_line(error)}') from error
    waiting = [run for run in comparison.runs if run.read().state != 'finished']
    missing = [run for run in waiting if not has_job(run)]
    for run in missing:
        run.folder.mkdir(parents=True, exist_ok=True)
    if missing:
        with _output_apart(), executor.batch():
            jobs = [executor.submit(TrainingJob(run)) for run in missing]
        for run, job in zip(missing, jobs, strict=True):
            write_json(run.folder / RECORD, {'cluster': cluster, 'job': job.job_id, 'folder': str(folder / '%j')})
    return (
        f'{len(missing)} of {len(comparison.runs)} runs submitted; {len(waiting) - len(missing)} have a job already; '
        f'{len(comparison.runs) - len(waiting)} are finished\nhmix-compare --table {comparison.output} shows them'
    )


@contextlib.contextmanager
def _output_apart() -> Iterator[None]:
    """Gives what is started in the block no part in this process's output, whose reader would wait for its end."""
    kept = {number: os.dup(number) for number in (1, 2)}
    with open(os.devnull, 'wb') as nowhere:
        for number in kept:
            os.dup2(nowhere.fileno(), number)
    try:
        yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)


def has_job(run: Run) -> bool:
    """Whether a job for a run is waiting or running."""
    path = run.folder / RECORD
    if not path.exists():
        return False
    record = json.loads(path.read_text())
    if record['cluster'] == 'slurm':
        import submitit

        return not submitit.SlurmJob(folder=record['folder'], job_id=record['job']).done(force_check=True)
    listed = subprocess.run(['ps', '-o', 'args=', '-p', record['job']], capture_output=True, text=True)
    return 'submitit' in listed.stdout
