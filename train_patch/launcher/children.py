"""Processes that multiprocessing spawns import the script afresh; here they get the launch's mixers first.

multiprocessing tells a spawned process which file its main module is, and the process executes that file under the name
`__mp_main__`. The processes of a launched script are told this one.
"""

import multiprocessing.spawn
import os
from typing import Any

VARIABLE = 'HMIX_TRAIN_LAUNCH'
"""Environment variable that holds the launch for processes that are started later."""


def reach_children(launch: str) -> None:
    """Has the processes that multiprocessing spawns or a fork server forks enter the launch.

    Args:
        launch: `any_script.Launch` as text.
    """
    os.environ[VARIABLE] = launch
    timms = multiprocessing.spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data = timms(name)
        if data.pop('init_main_from_name', None) or 'init_main_from_path' in data:
            data['init_main_from_path'] = __file__
        return data

    multiprocessing.spawn.get_preparation_data = get_preparation_data


if __name__ == '__mp_main__':
    from train_patch.launcher.any_script import execute_in_child

    globals().update(execute_in_child(os.environ[VARIABLE]))
