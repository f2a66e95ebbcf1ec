"""Enters a launch in a Python that its script has started, by `subprocess` or another way; `site` calls it."""

import atexit
import json
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

from ..common.errors import RunError
from . import any_script
from .others import refused
from .site.sitecustomize import VARIABLE
from .watch import Watch
from .witness import make_folder


def enter() -> None:
    """Enters the launch. A process that is no part of another one has a witness of its own, and is judged at its end.

    Raises:
        SystemExit: the launch cannot be entered.
    """
    launch = any_script.Launch(**json.loads(os.environ[VARIABLE]))
    main = multiprocessing.current_process().name == 'MainProcess'
    if main:  # it may outlive the process that started it
        launch = replace(launch, name=Path(sys.argv[0]).name, witness=make_folder())
    try:
        watch = any_script.enter(launch)
    except RunError as error:
        raise SystemExit(f'hmix-train: error: {error}') from error
    if main:
        atexit.register(_judge, watch, os.getpid())


def _judge(watch: Watch, pid: int) -> None:
    """Ends a process that would end well and has not mixed with an error."""
    if os.getpid() != pid or hasattr(sys, 'last_value') or not watch.began:
        return
    try:
        watch.check_at_the_end()
    except (RunError, SystemExit) as error:
        if not refused:
            print(f'hmix-train: error: {error}', file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # nothing else changes the exit status at this point
