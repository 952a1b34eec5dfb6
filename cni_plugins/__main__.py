"""The bundle's executable: every plugin and cnictl, told apart by the name it is called by."""

import contextlib
import os
import sys

from cni_plugins.main import main

status = main()
for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError):
        stream.flush()
os._exit(status)  # taking the interpreter down would cost as much as many a call
