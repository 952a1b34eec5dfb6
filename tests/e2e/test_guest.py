"""``tests/kernel/guest``: what a guest that works, fails or hangs answers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
GUEST = Path(__file__).parents[1] / "kernel" / "guest"


def guest(out: Path, *command: str, limit_s: int = 120) -> subprocess.CompletedProcess[str]:
    """Run a command in a guest; ``out`` receives what it said."""
    env = {**os.environ, "GUEST_LIMIT_S": str(limit_s)}
    argv = [str(GUEST), str(out), *command]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_output_and_exit_status_come_back(tmp_path):
    done = guest(tmp_path, "sh", "-c", "uname -m; modprobe -V; ip link add d0 type dummy; exit 7")
    assert done.returncode == 7, done.stderr
    assert "kmod" in (tmp_path / "log").read_text()
    assert "Error" not in (tmp_path / "log").read_text()


def test_a_guest_that_hangs_is_ended_and_says_what_it_was_at(tmp_path):
    done = guest(tmp_path, "sh", "-c", "echo waiting for godot; sleep 600", limit_s=20)
    assert done.returncode == 125
    assert "the guest ended without an answer (status 137, limit 20 s)" in done.stderr
    assert "waiting for godot" in done.stderr
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _text(p)]


def test_a_guest_cannot_write_the_machine_s_files(tmp_path):
    done = guest(tmp_path, "sh", "-c", f"touch {GUEST}.new && echo written; touch /etc/x; exit 0")
    assert done.returncode == 0
    assert "written" not in (tmp_path / "log").read_text()
    assert not GUEST.with_suffix(".new").exists()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
