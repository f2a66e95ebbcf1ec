"""Facts that the processes of a launch leave in folders, for the process that steps the optimizer to read.

Each process has a folder of its own, inside that of the process that forked it or that spawned it by multiprocessing,
and leaves its facts in all of these. A loader worker mixes for the process that started it, and has none.
"""

import contextlib
import hashlib
import os
import subprocess
import tempfile
import uuid
from pathlib import Path

from torch.utils.data import get_worker_info

VARIABLE = 'HMIX_TRAIN_WITNESS'
"""Environment variable that holds the folder of this process, for those that multiprocessing spawns."""

_INNER = 'of-'

_own = ['']
"""The folder of this process."""

MADE, MIXED, PROBLEM, SEEN = 'made', 'mixed', 'problem', 'seen'


def make_folder() -> str:
    """Makes a folder for facts, which goes when this process has ended, however it ended.

    A shell waits for the end of a pipe that this process holds, as do those forked from it. A handler of SIGTERM would
    not do: a process that waits in a collective runs no Python, and torchrun kills it in the end.
    """
    folder = tempfile.mkdtemp(prefix='hmix-train-')
    ends, _held = os.pipe()
    script = 'trap "" HUP INT TERM; exec 3<&0; (read -r line <&3; rm -rf -- "$0") &'
    command, null = ['/bin/sh', '-c', script, folder], subprocess.DEVNULL
    with contextlib.suppress(OSError):
        subprocess.run(command, stdin=ends, stdout=null, stderr=null, start_new_session=True)
    os.close(ends)
    return folder


def take(folder: str) -> None:
    """Makes a folder that of this process; those that are forked from it take one inside."""
    if not _own[0]:
        os.register_at_fork(after_in_child=lambda: take(inside(_own[0])))
    _own[0] = os.environ[VARIABLE] = folder


def inside(folder: str) -> str:
    """A new folder inside another one, which is made when it is needed."""
    return os.path.join(folder, f'{_INNER}{uuid.uuid4().hex}')


def here() -> str:
    """The folder of this process, or that of the process which has spawned it."""
    return _own[0] or os.environ.get(VARIABLE, '')


def leave(folder: str, fact: str, text: str = '') -> None:
    """Leaves a fact, once. Without a folder, or once it is gone: nothing.

    Args:
        folder: that of the process which has made the mixer; the fact is left for this process, too.
        fact: MADE, MIXED, PROBLEM or SEEN.
        text: what there is to say of the last two.
    """
    name = f'{fact}-{hashlib.sha1(text.encode()).hexdigest()}' if text else fact
    for place in [*_within(folder), *_within(here())]:
        path = os.path.join(place, name)
        with contextlib.suppress(OSError):
            if not os.path.exists(path):
                if os.path.basename(place).startswith(_INNER):
                    os.makedirs(place, exist_ok=True)
                with tempfile.NamedTemporaryFile('w', dir=place, prefix='.', delete=False) as file:
                    file.write(text)
                os.replace(file.name, path)


def _within(folder: str) -> list[str]:
    """The folder, unless it is a loader worker's, and those that it is in, up to that of the launch."""
    places = [folder] if folder else []
    while os.path.basename(places[-1] if places else '').startswith(_INNER):
        places.append(os.path.dirname(places[-1]))
    return places[1:] if len(places) > 1 and get_worker_info() is not None else places


def facts(folder: str) -> set[str]:
    """Names of the facts that have been left."""
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def text_of(folder: str, name: str) -> str:
    """The text of a fact."""
    return Path(folder, name).read_text()
