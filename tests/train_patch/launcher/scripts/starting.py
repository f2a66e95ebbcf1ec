"""A script that trains nothing itself: it starts the command in its arguments, in the way that the first one names."""

import os
import runpy
import subprocess
import sys


def train(argv):
    sys.argv = argv
    sys.path.insert(0, os.path.dirname(argv[0]))
    runpy.run_path(argv[0], run_name='__main__')


if __name__ == '__main__':
    way, *command = sys.argv[1:]
    if way == 'submitit':
        import submitit

        executor = submitit.LocalExecutor(command[0])
        executor.update_parameters(timeout_min=10)
        job = executor.submit(train, command[1:])
        job.wait()
        print(job.stderr())
        job.result()
    elif way == 'leaving':  # the child begins when this process has ended
        begin = f'while kill -0 {os.getpid()} 2> /dev/null; do sleep 0.1; done; exec "$@"'
        subprocess.Popen(['sh', '-c', begin, 'sh', *command], cwd='/', start_new_session=True)
    else:
        environment = {'PATH': os.environ['PATH'], 'PYTHONPATH': os.environ['CHECKOUT']} if way == 'emptied' else None
        done = subprocess.run(command, cwd='/' if way == 'elsewhere' else None, env=environment)
        sys.exit(done.returncode)
