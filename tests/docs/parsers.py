"""Up to where a command would begin to work: what its parser and its checks make of the words behind its name.

Each is called in a process of its own, because families that a file registers stay registered.
"""

from train_patch import bench as bench_command
from train_patch import figures as figures_command
from train_patch.trainer.arguments import parse_arguments


def bench(argv):
    bench_command.read_arguments(argv)


def figures(argv):
    figures_command.read_arguments(argv)


def train(argv):
    from train_patch.trainer.setup import check_arguments

    check_arguments(parse_arguments(argv)[0])
