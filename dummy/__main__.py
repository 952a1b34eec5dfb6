"""Entry point of the plugin."""

import sys

from cni_plugins.main import main

sys.exit(main("dummy"))
