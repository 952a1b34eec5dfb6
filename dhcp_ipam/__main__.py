"""Entry point of the plugin; with the word ``daemon``, of the daemon."""

import sys

from cni_plugins.main import main

sys.exit(main("dhcp"))
