"""Makes small mistakes in modules, one at a time, and shows those that the tests of the module let through.

    python tests/mutate.py train_patch/bench.py train_patch/benching --sample 20 --seed 0

The mistakes are made by Cosmic Ray's operators (extra `mutation`) and by the two below, at most one of a kind at each
place. Which test files belong to a module stands in mutation.yaml beside this file, the quickest first. They run in a
copy of the tree, each in a process of its own, until a test fails: those that come to the mistake's line first, and
the quick ones before the slow.
"""

import argparse
import contextlib
import difflib
import importlib
import itertools
import math
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import parso.python.tree  # before Cosmic Ray, whose imports are circular without it
import pytest
import yaml
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

TESTS = Path(__file__).resolve().parent
# what most test files import: processes forked after it do not import it again
COMMON = ('hypothesis', 'torch', 'torchvision', 'timm.data', 'scipy.stats', 'sklearn.datasets', 'matplotlib.pyplot')
# replacements that end in a TypeError wherever they are put; those of `|`, which stands in annotations, are out, too
POINTLESS = ('_RShift', '_LShift', '_BitOr', '_BitAnd', '_BitXor', '_Pow', '_Is', '_IsNot')


class RemoveStatement:
    """Puts `pass` in place of a call, a raise, a deletion, or an assignment that changes what is there."""

    def mutation_positions(self, node):
        if node.type != 'simple_stmt' or node.parent.type == 'file_input':
            return []
        statement = node.children[0]
        changes = statement.type in ('atom_expr', 'raise_stmt', 'del_stmt')
        if statement.type == 'expr_stmt':
            changes = statement.children[0].type == 'atom_expr' or statement.children[1].type == 'operator'
            changes = changes and (statement.children[0].type == 'atom_expr' or statement.children[1] != '=')
        return [(statement.start_pos, statement.end_pos)] if changes else []

    def mutate(self, node, index):
        first = node.get_first_leaf()
        node.children[0] = parso.python.tree.Keyword('pass', first.start_pos, first.prefix)
        return node


class RemoveArgument:
    """Takes a keyword argument out of a call, unless it changes no result."""

    def mutation_positions(self, node):
        return [(node.children[i].start_pos, node.children[i].end_pos) for i in self.arguments(node)]

    def arguments(self, node):
        if node.type not in ('arglist', 'trailer'):
            return []
        named = [i for i, x in enumerate(node.children) if x.type == 'argument' and x.children[1] == '=']
        return [i for i in named if node.children[i].children[0].value not in ('flush', 'help', 'strict')]

    def mutate(self, node, index):
        start = self.arguments(node)[index]
        del node.children[start : start + (2 if node.type == 'arglist' else 1)]
        return node


def mistakes(codes: dict[Path, str], sample: int, seed: int):
    """Yields module, line and code with one mistake, for `sample` places drawn from all of them."""
    every = OperatorProvider()
    names = [name for name in every if not name.endswith(POINTLESS) and 'Operator_BitOr_' not in name]
    operators = [every[name]() for name in names if not every[name].arguments()]
    places: dict = {}
    for module, code in codes.items():
        nodes = list(ast_nodes(get_ast(code)))
        for operator in (*operators, RemoveStatement(), RemoveArgument()):
            kind = type(operator).__name__.split('_')[0]
            positions = (position for node in nodes for position in operator.mutation_positions(node))
            for occurrence, (start, _) in enumerate(positions):
                places.setdefault((module, start, kind), []).append((operator, occurrence))
    draws = random.Random(seed)
    for place in sorted(draws.sample(sorted(places), min(sample, len(places)))):
        with contextlib.suppress(AttributeError):  # Cosmic Ray's own, where an operator is of two words
            module, (line, _), _ = place
            yield module, line, mutate_code(codes[module], *draws.choice(places[place]))


class Tests:
    """A plugin of pytest that learns what each test takes and sees, and then puts the likeliest and quickest first.

    What it takes is a processor's time, so that a busy machine catches no more and no fewer mistakes.
    """

    def __init__(self, module: Path):
        self.module, self.learning, self.line, self.limit = os.path.abspath(module), True, 0, math.inf
        self.known: dict = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        lines = set()

        def trace(frame, event, arg):
            if frame.f_code.co_filename == self.module:
                lines.add(frame.f_lineno)
                return trace

        sys.settrace(trace if self.learning else None)
        start = sum(os.times()[:4])
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.known[item.nodeid] = sum(os.times()[:4]) - start, lines

    def pytest_collection_modifyitems(self, items):
        """Tests that come to the line come first, and the quicker before the slower, up to a sum of seconds."""
        if not self.learning:
            took = {item: self.known.get(item.nodeid, (0, {self.line})) for item in items}
            items.sort(key=lambda item: (self.line not in took[item][1], took[item][0]))
            sums = itertools.accumulate(took[item][0] for item in items)
            items[:] = [item for item, seconds in zip(items, sums, strict=False) if seconds <= self.limit]

    def pytest_sessionfinish(self):
        if self.learning:
            Path('known').write_bytes(pickle.dumps(self.known))

    def pass_in(self, file: str, cpu_seconds: int) -> bool:
        """Whether those of a file pass in a process of their own, within so much of a processor's time."""
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
            log = os.open('log', os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(log, 1)
            os.dup2(log, 2)
            try:
                os._exit(pytest.main(['-x', '-q', '-p', 'no:cacheprovider', file], plugins=[self]))
            finally:  # a mistake that pytest's own start stumbles over is no way out of `main`, which removes the tree
                os._exit(1)
        end = time.monotonic() + 5 * cpu_seconds  # one that waits for ever; a busy machine is no reason to fail
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode((ended if ended[0] else os.waitpid(pid, 0))[1]) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('modules', type=Path, nargs='+', help='modules and folders of them, from the root of the tree')
    parser.add_argument('--sample', type=int, default=30, help='how many mistakes to make (default: 30)')
    parser.add_argument('--seed', type=int, default=0, help='which of the possible ones (default: 0)')
    parser.add_argument('--seconds', type=float, default=20, help='CPU time of the tests of each file (default: 20)')
    args = parser.parse_args()

    listed = yaml.safe_load((TESTS / 'mutation.yaml').read_text())
    modules = [module for module in map(Path, listed) if not {module, *module.parents}.isdisjoint(args.modules)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'tree'
        shutil.copytree(TESTS.parent, copy, ignore=shutil.ignore_patterns('.*', '__pycache__', '*.egg-info'))
        os.chdir(copy)
        # the copy is what is imported, in processes that tests start, too
        sys.path[0] = os.environ['PYTHONPATH'] = str(copy)
        os.environ.update(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTEST_DISABLE_PLUGIN_AUTOLOAD='1')
        for name in COMMON:
            importlib.import_module(name)

        tried = caught = 0
        codes = {module: module.read_text() for module in modules}
        drawn = mistakes(codes, args.sample, args.seed)
        for module, of_it in itertools.groupby(drawn, lambda mistake: mistake[0]):
            tests = Tests(module)
            files = [f'tests/{name}' for name in listed[module.as_posix()]]
            for file in files:
                if not tests.pass_in(file, 1800):
                    sys.exit(f'{file} fails without a mistake:\n{Path("log").read_text()}')
                tests.known = pickle.loads(Path('known').read_bytes())
            tests.learning, tests.limit = False, args.seconds
            for _, tests.line, mistaken in of_it:
                tried += 1
                module.write_text(mistaken)
                os.utime(module, (tried, tried))  # no two have the time of one compiled file
                if all(tests.pass_in(file, 30 + 5 * math.ceil(args.seconds)) for file in files):
                    lines = difflib.unified_diff(codes[module].splitlines(), mistaken.splitlines(), lineterm='', n=1)
                    print('\n'.join([str(module), *list(lines)[2:]]), flush=True)
                else:
                    caught += 1
            module.write_text(codes[module])
        print(f'{caught} of {tried} caught in {", ".join(map(str, args.modules))} (--seed {args.seed})')


if __name__ == '__main__':
    main()
