"""Entry point from a checkout: ``python -m cnictl``."""

import os
import sys

from cnictl.cli import main

sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
