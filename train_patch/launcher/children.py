"""Processes that multiprocessing spawns import the script afresh; here they get the launch's mixers first.

multiprocessing tells a spawned process which file its main module is, and the process executes that file under the name
`__mp_main__`. The processes of a launched script are told `spawned.py`.
"""

import multiprocessing.spawn
import os
from pathlib import Path
from typing import Any

VARIABLE = 'HMIX_TRAIN_LAUNCH'
"""Environment variable that holds the launch for processes that are started later."""

MAIN_MODULE = str(Path(__file__).with_name('spawned.py'))


def reach_children(launch: str) -> None:
    """Has the processes that multiprocessing spawns or a fork server forks enter the launch.

    Args:
        launch: `any_script.Launch` as text.
    """
    os.environ[VARIABLE] = launch
    pythons = multiprocessing.spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data = pythons(name)
        if data.pop('init_main_from_name', None) or 'init_main_from_path' in data:
            data['init_main_from_path'] = MAIN_MODULE
        return data

    multiprocessing.spawn.get_preparation_data = get_preparation_data
