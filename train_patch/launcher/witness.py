"""Facts that the processes of a launch leave in a folder, for the process that steps the optimizer to read."""

import contextlib
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

MADE, MIXED, PROBLEM = 'made', 'mixed', 'problem'


def make_folder() -> str:
    """Makes a folder for facts, which goes when this process has ended, however it ended.

    A shell waits for the end of a pipe that this process holds, as do those forked from it. A handler of SIGTERM would
    not do: a process that waits in a collective runs no Python, and torchrun kills it in the end.
    """
    folder = tempfile.mkdtemp(prefix='hmix-train-')
    ends, _held = os.pipe()
    script = 'trap "" HUP INT TERM; exec 3<&0; (read -r line <&3; rm -rf -- "$0") &'
    quiet: dict[str, Any] = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    with contextlib.suppress(OSError):
        subprocess.run(['/bin/sh', '-c', script, folder], stdin=ends, start_new_session=True, **quiet)
    os.close(ends)
    return folder


def leave(folder: str, fact: str, text: str = '') -> None:
    """Leaves a fact, once: MADE, MIXED, or PROBLEM with its text. Without a folder, or once it is gone: nothing."""
    if not folder:
        return
    name = f'{fact}-{hashlib.sha1(text.encode()).hexdigest()}' if text else fact
    path = os.path.join(folder, name)
    with contextlib.suppress(OSError):
        if not os.path.exists(path):
            with tempfile.NamedTemporaryFile('w', dir=folder, prefix='.', delete=False) as file:
                file.write(text)
            os.replace(file.name, path)


def facts(folder: str) -> set[str]:
    """Names of the facts that have been left."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def text_of(folder: str, name: str) -> str:
    """The text of a fact."""
    return Path(folder, name).read_text()
