"""Running processes: what goes in and out, how they end, and what ends them."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from cni_plugins.deadline import Deadline
from cni_plugins.errors import ExecError, Interrupted
from cni_plugins.host.command import Runner

if TYPE_CHECKING:
    from pathlib import Path

ENV = {"PATH": "/usr/bin:/bin", "GIVEN": "by the caller"}
SH = "/bin/sh"


def runner(seconds: float = 20.0) -> Runner:
    """A call with that much time."""
    return Runner(ENV, Deadline(time.monotonic() + seconds))


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    """A process that was sent SIGKILL takes a moment."""
    until = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < until, f"{pid} is still there"
        time.sleep(0.01)


def test_everything_goes_in_and_out() -> None:
    """Much more than a pipe holds, in both directions at once."""
    content = os.urandom(1 << 22)
    script = "cat; head -c 300000 /dev/zero >&2"
    done = runner().execute([SH, "-c", script], stdin=content)
    assert (done.status, done.stdout, len(done.stderr)) == (0, content, 300_000)


def test_standard_input_that_nobody_reads() -> None:
    """Is none of our business."""
    assert runner().execute([SH, "-c", "exit 0"], stdin=bytes(1 << 22)).status == 0


def test_standard_input_ends_at_once_when_there_is_none() -> None:
    """And never is this process's own."""
    assert runner().execute([SH, "-c", "cat"]).stdout == b""


def test_a_file_that_is_named_as_standard_input() -> None:
    """nft opens /dev/stdin."""
    assert runner().execute([SH, "-c", "cat /dev/stdin"], stdin=b"rules").stdout == b"rules"


def test_the_environment_is_the_caller_s() -> None:
    """Not this process's."""
    done = runner().execute(["/usr/bin/env"])
    assert dict(line.split("=", 1) for line in done.stdout.decode().splitlines()) == ENV


def test_a_process_leads_a_session_of_its_own() -> None:
    """With the signals as the kernel has them, and no descriptors but three."""
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        script = "cat /proc/self/stat; grep SigIgn /proc/self/status; ls /proc/self/fd"
        said = runner().execute([SH, "-c", script]).stdout.decode().splitlines()
    finally:
        signal.signal(signal.SIGPIPE, before)
        os.close(inherited)
    assert said[0].split()[5] != str(os.getsid(0))
    assert int(said[1].split()[1], 16) & (1 << signal.SIGPIPE - 1) == 0
    assert said[2:] == ["0", "1", "2", "3"], "the fourth is that of ls"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_process_whose_own_streams_are_closed(closed: tuple[int, ...]) -> None:
    """The descriptors that it gets in their place do not overwrite each other."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in closed:
                os.close(fd)
            script = "cat; echo wrong >&2; exit 3"
            done = runner().execute([SH, "-c", script], stdin=b"in")
            os.write(writer, repr((done.status, done.stdout, done.stderr)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"(3, b'in', b'wrong\\n')"
    os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("script", "status", "ending"),
    [
        ("exit 7", 7, "exit status 7"),
        ("kill -9 $$", -9, "signal: killed"),
        ("kill -PIPE $$", -13, "signal: broken pipe"),
    ],
)
def test_how_a_process_ended(script: str, status: int, ending: str) -> None:
    """By its status, or by a signal."""
    done = runner().execute([SH, "-c", script])
    assert (done.status, done.ending) == (status, ending)


def test_a_process_that_cannot_be_started(tmp_path: Path) -> None:
    """The reason is the kernel's."""
    (tmp_path / "plain").write_text("echo")
    (tmp_path / "no-format").write_text("echo")
    (tmp_path / "no-format").chmod(0o755)
    for name, number in (
        ("none", errno.ENOENT),
        ("plain", errno.EACCES),
        ("no-format", errno.ENOEXEC),
    ):
        with pytest.raises(ExecError, match=f"^run {tmp_path}/{name}: ") as caught:
            runner().execute([f"{tmp_path}/{name}"])
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == number


def test_what_a_process_left_running_holds_nobody_up() -> None:
    """Although it has the pipes; what was said before is there."""
    begin = time.monotonic()
    done = runner().execute([SH, "-c", "sleep 60 & echo $!; echo x >&2"])
    assert time.monotonic() - begin < 10
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.stderr == b"x\n"


def test_when_the_time_is_up_the_whole_group_is_killed(tmp_path: Path) -> None:
    """Also what the process had started."""
    script = f"sleep 60 & echo $! > {tmp_path}/pid; sleep 60"
    with pytest.raises(ExecError, match=r"^run /bin/sh: took too long and was killed$"):
        runner(0.5).execute([SH, "-c", script])
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_an_interruption_ends_the_wait_and_the_process() -> None:
    """As TERM does in an ADD."""
    deadline = Deadline.after(30)
    started = Runner(ENV, deadline).start([SH, "-c", "exec sleep 60"])

    def on_signal(_number: int, _frame: object) -> None:
        deadline.interrupt("SIGUSR1")

    before = signal.signal(signal.SIGUSR1, on_signal)
    main = threading.get_ident()
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Interrupted):
            started.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)
        timer.join()
    assert not is_running(started._pid)


def test_no_descriptor_is_left_open() -> None:
    """Whatever the end."""
    before = os.listdir("/proc/self/fd")
    runner().execute([SH, "-c", "exit 1"])
    for argv in (["/nonexistent"], [SH, "-c", "sleep 60"]):
        with pytest.raises(ExecError):
            runner(0.1).execute(argv)
    assert os.listdir("/proc/self/fd") == before


# --- tools --------------------------------------------------------------------------------------


def test_tools_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    os.mkfifo(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    one = runner().launch(["sh", "-c", f"echo 1 > {tmp_path}/a; cat {tmp_path}/b"])
    two = runner().launch(["sh", "-c", f"cat {tmp_path}/a; echo 2 > {tmp_path}/b"])
    assert (one.result().stdout, two.result().stdout) == (b"2\n", b"1\n")


def test_a_tool_that_fails_says_so_when_it_is_asked() -> None:
    """With its arguments, its ending and the tail of what it said."""
    tool = runner().launch(["sh", "-c", "echo why >&2; exit 4"])
    with pytest.raises(ExecError) as caught:
        tool.result()
    assert caught.value.msg == "run sh -c echo why >&2; exit 4: exit status 4"
    assert (caught.value.status, caught.value.stderr) == (4, "why\n")


def test_a_tool_that_is_not_installed() -> None:
    """Where it was looked for is said, not before it is asked."""
    tool = runner().launch(["no-such-tool"])
    with pytest.raises(ExecError, match="run no-such-tool: not found in /usr/bin:/bin:/usr/local"):
        tool.result()
