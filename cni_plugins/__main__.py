"""The bundle's executable: every plugin and cnictl, told apart by the name it is called by."""

import os
import sys

from cni_plugins.main import main

status = main()
for stream in (sys.stdout, sys.stderr):
    try:
        stream.flush()
    except OSError:  # a reader that has gone away
        continue
os._exit(status)  # taking the interpreter down would cost as much as many a call
