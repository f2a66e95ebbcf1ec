"""The main module of the processes that multiprocessing spawns for a launched script; nothing imports it by its name.

Such a process finds here what it would find in the script: what it unpickles names it as `__main__`.
"""

import os

if __name__ == '__mp_main__':
    from .any_script import execute_in_child
    from .children import VARIABLE

    globals().update(execute_in_child(os.environ[VARIABLE]))
