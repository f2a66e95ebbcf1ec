"""Runs the project's script or a comparison in a process of the tests' server, alone or as torchrun would."""

import os
import signal
import socket

import process_server

from train_patch import compare, train

COMMANDS = {'train': train.main, 'compare': compare.main}
TOUCHING = ('replace', 'link', 'unlink', 'remove')


def run(command, argv, processes, kill_at, kill_after):
    """Runs a command.

    Args:
        command: 'train' or 'compare'.
        argv: its arguments.
        processes: number of processes of the run; they find each other as those of torchrun do.
        kill_at: the number of the call that changes a folder (see TOUCHING) before which the run kills itself, or None.
        kill_after: the name of the file that the run does not outlive, or None.
    """
    if kill_at is not None:
        kill_at_call(kill_at)
    if kill_after is not None:
        kill_after_file(kill_after)
    if processes == 1:
        return COMMANDS[command](argv)
    # bound until the run is over, so that no other process is given the port that the run's processes meet at
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(('127.0.0.1', 0))
        pids = [start(command, argv, environment) for environment in environments(processes, reserved.getsockname()[1])]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return next(filter(None, statuses), 0)


def start(command, argv, environment):
    """Forks a process of a run and returns its number."""
    pid = os.fork()
    if pid == 0:
        os.environ.update(environment)
        process_server.end(COMMANDS[command], argv)
    return pid


def environments(processes, port):
    """The variables that torchrun sets for each process of a run."""
    shared = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': str(processes)}
    return [{**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(processes)]


def kill_at_call(number):
    calls = 0

    def killing(function):
        def touch(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                os.killpg(0, signal.SIGKILL)
            return function(*args, **kwargs)

        return touch

    for name in TOUCHING:
        setattr(os, name, killing(getattr(os, name)))


def kill_after_file(name):
    replace = os.replace

    def killing(source, target):
        replace(source, target)
        if os.path.basename(target) == name:
            os.killpg(0, signal.SIGKILL)

    os.replace = killing
