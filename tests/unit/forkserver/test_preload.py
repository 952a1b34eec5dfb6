"""What the server has in memory before it forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cni_plugins import catalog

ROOT = Path(__file__).parents[3]
LIST = "import sys; from forkserver import preload; preload.everything(); print(*sys.modules)"


def test_every_module_of_the_library_and_the_plugins_is_loaded():
    done = subprocess.run(
        [sys.executable, "-c", LIST], capture_output=True, text=True, cwd=ROOT, check=True
    )
    folders = {module.partition(".")[0] for module in catalog.PLUGINS.values()}
    wanted = {
        str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
        for folder in ("cni_plugins", *folders)
        for path in (ROOT / folder).rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"}
    }
    assert sorted(wanted - set(done.stdout.split())) == []
