"""The agent behind a real OpenSSH server on this machine, as the forced command of a key.

The server is `sshd` of the system, or the program in the variable SSHD.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from documented import ROOT, blocks
from nas_compress.devices.remote.agent_file import restricted_key, write_agent
from nas_compress.errors import DeviceLostError
from nas_compress.runs.folder import RunFolder
from nas_compress.runs.records import read_records
from nas_compress.search.run import run_study
from remote_devices import measure_quickly, remote_device
from running import own_cache as own_cache
from running import write_study
from timing import save_net

SSHD = os.environ.get("SSHD") or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SSHD and shutil.which("ssh") and shutil.which("ssh-keygen")), reason="there is no OpenSSH server here"
    ),
]

PRIVATE = """
mount -t tmpfs tmpfs /run && mkdir /run/sshd && mount --bind {passwd} /etc/passwd && exec {sshd} -D -e -f {conf}
"""
"""Start as root with a user that the server needs, without a trace on the machine."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server that lets `key` start the agent and nothing else."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def command(self, *words: str, key: str = "key", known: str = "known") -> list[str]:
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.folder / known}"]
        flags = [flag for option in (*options, "IdentitiesOnly=yes") for flag in ("-o", option)]
        to = f"{getpass.getuser()}@127.0.0.1"
        return ["ssh", "-T", "-F", "none", *flags, "-i", str(self.folder / key), "-p", str(self.port), to, *words]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    for name in ("host", "key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host}")
    (folder / "empty").write_text("")
    (folder / "changed").write_text(f"[127.0.0.1]:{port} {(folder / 'stranger.pub').read_text()}")
    write_agent(folder / "agent.py")
    line = restricted_key(folder / "agent.py").replace("python3 agent.py", f"{sys.executable} {folder / 'agent.py'}")
    (folder / "authorized").write_text(f"{line} {(folder / 'key.pub').read_text()}")
    (folder / "conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nPasswordAuthentication no\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(_start(folder), stderr=log)
    try:
        _await(port, process, folder / "log")
        yield Server(folder=folder, port=port, process=process)
    finally:
        process.terminate()
        process.wait()


def _start(folder: Path) -> list[str]:
    assert SSHD is not None
    if os.geteuid() != 0:
        return [SSHD, "-D", "-e", "-f", str(folder / "conf")]
    users = [user for user in Path("/etc/passwd").read_text().splitlines() if not user.startswith(("root:", "sshd:"))]
    own = ["root:*:0:0:root:/root:/bin/sh", "sshd:x:22922:65534::/run/sshd:/usr/sbin/nologin"]
    (folder / "passwd").write_text("\n".join([*own, *users]) + "\n")
    words = {name: shlex.quote(str(folder / name)) for name in ("passwd", "conf")}
    return ["unshare", "--mount", "sh", "-c", PRIVATE.format(sshd=shlex.quote(SSHD), **words)]


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.skip(f"the OpenSSH server does not start: {log.read_text(errors='replace').strip()}")


def test_a_file_is_measured_and_no_other_command_runs(server: Server, tmp_path: Path) -> None:
    net = save_net(tmp_path / "net.onnx")
    device = remote_device(server.command("touch", str(tmp_path / "other")))
    assert device.latency(net).latency_ms > 0 and device.describe()["device"] == "remote"
    assert not (tmp_path / "other").exists()


def test_what_ssh_refuses_is_one_line_without_names(server: Server) -> None:
    cases = {
        "its host key is not known to ssh; connect once in a terminal and accept it": server.command(known="empty"),
        "its host key differs from the key that ssh knows": server.command(known="changed"),
        "ssh is not allowed to log in": server.command(key="stranger"),
        "no ssh server answers at its address": [*server.command()[:-2], "1", "127.0.0.1"],
    }
    for reason, command in cases.items():
        with pytest.raises(DeviceLostError) as caught:
            remote_device(command)
        assert str(caught.value) == f"the device did not answer: {reason}"


def test_a_study_keeps_nothing_of_the_command(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_quickly(monkeypatch)
    objectives = ('name = "tiny"\n', 'name = "tiny"\nobjectives = ["accuracy", "latency_ms@pi"]\n')
    table = f"[device.pi]\ncommand = {json.dumps(server.command())}\n"
    folder = RunFolder(root=tmp_path / "run")
    front = run_study(write_study(tmp_path / "s", objectives, extra=table), out=folder.root, trials=1)
    assert front.members[0].figure("latency_ms@pi") > 0 and len(read_records(folder)) == 1
    content = b"".join(path.read_bytes() for path in folder.root.rglob("*") if path.is_file())
    for word in (str(server.folder), f"{getpass.getuser()}@127.0.0.1", "BatchMode", str(server.port)):
        assert word.encode() not in content, word


def test_the_command_of_the_page_measures(server: Server, tmp_path: Path) -> None:
    (block,) = blocks("toml", page=ROOT / "docs" / "pages" / "own-device.md")
    words = tomllib.loads(block.text)["device"]["pi"]["command"]
    assert words[-3:] == ["-i", "~/.ssh/nas_agent", "pi@raspberrypi"]
    command = [*words[:-3], *server.command()[2:]]
    assert remote_device(command).latency(save_net(tmp_path / "net.onnx")).latency_ms > 0


def test_the_line_of_the_page_is_the_printed_one() -> None:
    page = (ROOT / "docs" / "pages" / "own-device.md").read_text()
    assert f"\n{restricted_key(Path('agent.py'))} ssh-ed25519 AAAA" in page
