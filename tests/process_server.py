"""Starts Python processes quickly: a fork of a process that has imported torch and timm forks one per request.

Reads requests from a socket, a JSON object per line: `function` ("package.module:name") and its `arguments`, `cwd`,
`environment` (variables that differ from the server's), and the files `stdin`, `stdout` and `stderr`, of which the last
two may be the same.
Answers each with two lines: {"pid": …} at the start and {"status": …} at the end.
"""

import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import weakref

TIME_LIMIT = 600  # seconds


def run_module(module, argv):
    """Runs `python -m MODULE ARGV`."""
    sys.argv = [module, *argv]
    runpy.run_module(module, run_name='__main__', alter_sys=True)


def run_script(argv):
    """Runs `python SCRIPT ARGV`."""
    sys.argv = argv
    sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))
    runpy.run_path(argv[0], run_name='__main__')


def redirect(stream, path):
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(file, stream.fileno())
    stream.reconfigure(line_buffering=True)


def call(request):
    """Calls the function of a request, in a process of its own."""
    os.setsid()
    signal.alarm(TIME_LIMIT)
    # a shell that starts the tests in the background has SIGINT ignored, and Python leaves it so
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(request['stdin'], os.O_RDONLY), 0)
    redirect(sys.stdout, request['stdout'])
    redirect(sys.stderr, request['stderr'])
    os.chdir(request['cwd'])
    os.environ.update(request['environment'])
    sys.path[0] = request['cwd']
    module, name = request['function'].split(':')
    return getattr(importlib.import_module(module), name)(**request['arguments'])


def end(function, *arguments):
    """Calls a function and ends the process as Python would, but for taking all of torch apart: that takes seconds."""
    status = 1
    try:
        status = function(*arguments) or 0
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def use_huge_pages():
    """Has Linux (6.1 and newer) gather this process's memory in huge pages, of whose table a fork copies far less."""
    madvise, collapse = ctypes.CDLL(None).madvise, 25
    with open('/proc/self/maps') as maps:
        areas = [line.split() for line in maps]
    for area, rights, _, _, inode, *_ in areas:
        if 'w' in rights and inode == '0':  # no file's
            start, end = (int(address, 16) for address in area.split('-'))
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), collapse)


def start():
    """Forks the server of this process, which ends with it, and returns the stream for requests and answers."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        weakref.finalize._registry.clear()  # folders that pytest's process is to remove at its own end
        end(serve, theirs.makefile('rw'))
    theirs.close()
    return ours.makefile('rw')


@functools.cache
def prepare():
    """Comes before the first request, which may never come."""
    # as if this were the program: what pytest has put over the streams is not for the processes, nor is its own folder
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate('rww'))
    sys.modules['__main__'] = sys.modules[__name__]
    sys.modules[__name__].__spec__ = None
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:0] = ['the folder of a request', checkout]
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [checkout, os.environ.get('PYTHONPATH')]))
    # before the forks, all that a process imports; loader workers, which run this module again, import nothing here
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import PIL.Image
    import sklearn.datasets  # noqa: F401

    import train_patch.__main__
    import train_patch.train  # noqa: F401

    launcher = [f'train_patch.launcher.{name}' for name in ('any_script', 'timm_script', 'in_loop')]
    for name in (*launcher, 'tests.train_patch.launcher.launching', 'tests.train_patch.lean'):
        importlib.import_module(name)
    PIL.Image.init()

    gc.freeze()
    gc.enable()
    for finalizer in list(weakref.finalize._registry):  # torch's, of its operators: half of what a short process takes
        finalizer.atexit = False
    if sys.platform == 'linux':
        use_huge_pages()


def serve(requests):
    for line in requests:
        prepare()
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            end(call, request)
        print(json.dumps({'pid': pid}), file=requests, flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({'status': os.waitstatus_to_exitcode(status)}), file=requests, flush=True)
