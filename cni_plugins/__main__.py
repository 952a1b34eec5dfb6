"""The bundle's executable: every plugin and cnictl, told apart by the name it is called by."""

import sys

from cni_plugins.main import main

sys.exit(main())
