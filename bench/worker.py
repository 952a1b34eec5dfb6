"""A program that makes calls where it stands: each line it reads is one, each it writes an answer.

A call of a host of its own is timed without the time it takes to enter that host.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time


def timed(argv: list[str], env: dict[str, str], stdin: str) -> tuple[float, int, str, str]:
    """Seconds from fork to the end of output, exit status, standard output and error."""
    content = stdin.encode()
    began = time.perf_counter()
    done = subprocess.run(argv, input=content, env=env, capture_output=True, check=False)
    seconds = time.perf_counter() - began
    return seconds, done.returncode, done.stdout.decode(), done.stderr.decode()


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(timed(**json.loads(line))), flush=True)
