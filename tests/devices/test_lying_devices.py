"""A device that dies, lies, stalls or prints too much is refused in one line, which has no word of the device."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nas_compress.devices.remote.agent import MAGIC, PREFIX, pack, read_frame
from nas_compress.devices.remote.link import Limits, Link
from nas_compress.devices.remote.piped_command import PipedCommand
from nas_compress.devices.remote.why_lost import why_ended
from nas_compress.errors import DeviceLostError, RequestError
from remote_devices import AGENT, PATIENT, changed_agent

ANSWER = """
def answer(self, ask, body):
    header, content = {**ask, 'model': MODEL, 'rows': 1}, b''
    if ask['request'] == 'hello':
        header, content = honest(self, ask, body)
    return lie(header, content) if ask['request'] == WHEN else (header, content)
"""


def lie(when: str, lie: str, *, model: str = "") -> str:
    return f"WHEN, MODEL = {when!r}, {model!r}\nlie = lambda header, content: {lie}\n{ANSWER}"


FIGURES = {
    "nan": "struct.pack('<2d', 1.0, float('nan'))",
    "negative": "struct.pack('<2d', 1.0, -1.0)",
    "zero": "struct.pack('<d', 0.0)",
    "infinite": "struct.pack('<d', float('inf'))",
    "years": "struct.pack('<d', 1e12)",
}

WRONG_FACTS = {
    "cores": "{'cores': -1}",
    "huge number": "{'cores': 10**4000}",
    "text": "{'cores': '2'}",
    "terminal codes": "{'cpu': '\\x1b[31m'}",
    "long": "{'cpu': 'a' * 9999}",
    "list": "{'cpu': ['a']}",
    "other runtime": "{'kind': 'tflite'}",
}


def opened(folder: Path, change: str) -> Link:
    return Link(changed_agent(folder, change), limits=PATIENT)


def level(link: Link) -> list[float]:
    try:
        return link.level(seconds=0.1, threads=1, reference_block_ms=2.0)
    finally:
        link.close()


@pytest.mark.parametrize("figures", FIGURES.values(), ids=FIGURES)
def test_times_must_be_finite_and_positive(figures: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match=r"^the device sent times that are not finite and positive; check that"):
        level(opened(tmp_path, lie("level", f"(header, {figures})")))


def test_figures_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match="figures that are cut off"):
        level(opened(tmp_path, lie("level", "(header, b'1234567')")))
    with pytest.raises(DeviceLostError, match="figures that are cut off"):
        level(opened(tmp_path, lie("level", "(header, b'')")))


@pytest.mark.parametrize("facts", WRONG_FACTS.values(), ids=WRONG_FACTS)
def test_a_description_must_be_plain(facts: str, tmp_path: Path) -> None:
    limits = "sys.set_int_max_str_digits(0) if hasattr(sys, 'set_int_max_str_digits') else None\n"
    with pytest.raises(
        DeviceLostError, match=r"^the device described itself in a way that the protocol does not have$"
    ):
        opened(tmp_path, limits + lie("hello", f"({{**header, **{facts}}}, b'')"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{**header, 'protocol': 2}", "must speak protocol 1, but it speaks protocol 2; write it again with"),
        ("{**header, 'protocol': None}", "must speak protocol 1, but it speaks none; write it again with"),
        ("{**header, 'number': 99}", "an answer to another request"),
        ("{**header, 'request': 'time'}", "an answer to another request"),
        ("{'error': 'alice'}", "an error that no request of this version has"),
        ("{'error': ['memory']}", "an error that no request of this version has"),
    ],
)
def test_an_agent_must_speak_this_protocol(header: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match=words) as caught:
        opened(tmp_path, lie("hello", f"({header}, b'')"))
    assert "\n" not in str(caught.value) and "alice" not in str(caught.value)


def test_an_answer_must_be_for_the_file_that_was_sent(tmp_path: Path) -> None:
    link = opened(tmp_path, lie("", "0", model="0" * 64))
    with pytest.raises(DeviceLostError, match="an answer for another file"):
        link.give("candidate", b"a model", {})
    link.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("agent.PREFIX.pack(agent.MAGIC, 2**31, 0, bytes(32)) + b'{' * 2**22", "too much"),
        ("agent.PREFIX.pack(agent.MAGIC, 2, 2**40, bytes(32)) + b'{}'", "too much"),
        ("agent.PREFIX.pack(agent.MAGIC, 2, 0, bytes(32)) + b'{}'", "content that does not match its hash"),
        ("honest_pack({})[:-1] + b'x'", "content that does not match its hash"),
        ("frame(b'[1]')", "no frame"),
        ("frame(b'[' * 60000)", "no frame"),
        ("frame(b'9' * 60000)", "no frame"),
        ("b'x' * 1000", "no frame"),
    ],
)
def test_a_frame_is_checked_before_it_is_read(answer: str, words: str, tmp_path: Path) -> None:
    change = (
        "import hashlib\nhonest_pack = agent.pack\n"
        "frame = lambda text: agent.PREFIX.pack(agent.MAGIC, len(text), 0, hashlib.sha256(text).digest()) + text\n"
        f"lies = lambda header, body=b'': {answer} if header['request'] == 'level' else honest_pack(header, body)\n"
        "agent.pack = lies\n"
    )
    with pytest.raises(DeviceLostError, match=words):
        level(opened(tmp_path, change + lie("", "0")))


def test_a_stalled_device_is_lost(tmp_path: Path) -> None:
    change = lie("net", "time.sleep(3600)")
    link = Link(changed_agent(tmp_path, change), limits=Limits(start_s=300.0, answer_s=0.2, bytes_per_s=1e9))
    with pytest.raises(DeviceLostError, match=r"^the device did not answer in time$"):
        link.give("candidate", b"a model", {})
    link.close()
    assert link.has_ended, "closing ends it"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os._exit(7)", "its command ended with exit code 7"),
        ("os.kill(os.getpid(), 9)", "its command ended by signal 9"),
        ("os.close(1)", "."),
        ("sys.exit('alice@pi: Permission denied (publickey,password).')", "ssh is not allowed to log in"),
        ("os.write(1, b'a' * 2**20)", "the command prints something else than the agent's answers"),
    ],
)
def test_a_command_that_ends_or_prints_is_lost(code: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match=words) as caught:
        opened(tmp_path, f"{code}\nos._exit(1)")
    assert "alice" not in str(caught.value)


def test_a_device_that_dies_while_it_measures_is_lost(tmp_path: Path) -> None:
    with pytest.raises(DeviceLostError, match="exit code 5"):
        level(opened(tmp_path, lie("level", "os._exit(5)")))


def test_a_command_that_takes_nothing_is_lost() -> None:
    pipe = PipedCommand(["sleep", "3600"])
    with pytest.raises(DeviceLostError, match="in time"):
        pipe.write(bytes(2**20), end=time.monotonic() + 0.2)
    pipe.close()
    assert pipe.has_ended


def test_a_command_that_prints_without_end_takes_no_memory() -> None:
    pipe = PipedCommand(["yes"])
    with pytest.raises(DeviceLostError, match="in time"):
        pipe.write(bytes(2**20), end=time.monotonic() + 0.5)
    assert sum(map(len, pipe._kept.values())) < 2**21
    pipe.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/secret"], "but it cannot be started: no such file or directory"),
        (["./hostname"], "but it cannot be started: permission denied"),
        (["a\0secret"], "but it cannot be started: it holds a null byte"),
    ],
)
def test_a_command_that_cannot_be_started_is_a_wrong_request(
    command: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostname").write_text("no program")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=words) as caught:
        PipedCommand(command)
    assert "secret" not in str(caught.value) and "hostname" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "printed", "reason"),
    [
        (255, "No ED25519 host key is known for pi.\r\nHost key verification failed.\r\n", "its host key is not known"),
        (
            255,
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "its host key differs",
        ),
        (255, "alice@pi: Permission denied (publickey).\r\n", "ssh is not allowed to log in"),
        (255, "ssh: Could not resolve hostname pi: Name or service not known", "ssh cannot find its address"),
        (255, "ssh: connect to host pi port 22: Connection refused", "no ssh server answers"),
        (255, "ssh: connect to host pi port 22: No route to host", "there is no network route to it"),
        (127, "bash: line 1: agent: command not found", "the agent's command is not found there"),
        (127, "", "the agent's command is not found there"),
        (126, "bash: line 1: ./agent.py: Permission denied", "the agent's file may not be executed there"),
        (2, "python3: can't open file '/home/alice/agent.py': [Errno 2]", "the agent's file is not found there"),
        (1, "ModuleNotFoundError: No module named 'numpy'", "Python lacks a package there"),
        (3, "", "a request took too long there"),
        (-9, "secret", "its command ended by signal 9"),
        (None, "secret", "it closed its output"),
    ],
)
def test_reasons_are_in_fixed_words(code: int | None, printed: str, reason: str) -> None:
    found = why_ended(code, printed)
    assert found.startswith(reason)
    assert not any(word in found for word in ("alice", "pi:", " pi ", "secret"))


REFUSED = {
    "hash": PREFIX.pack(MAGIC, 2, 0, bytes(32)) + b"{}",
    "too_large": PREFIX.pack(MAGIC, 2**31, 0, bytes(32)),
    "frame": b"GET / HTTP/1.1\r\nHost: pi\r\n" + bytes(100),
}


@pytest.mark.parametrize("code", REFUSED)
def test_the_agent_refuses_a_wrong_frame_and_ends(code: str) -> None:
    pipe, end = PipedCommand(AGENT), time.monotonic() + 300
    pipe.write(REFUSED[code], end=end)
    assert read_frame(lambda count: pipe.read(count, end=end))[0] == {"error": code, "number": 0}
    with pytest.raises(DeviceLostError, match="exit code 0"):
        pipe.read(1, end=end)
    pipe.close()


def test_the_agent_has_limits_of_its_own() -> None:
    pipe, end = PipedCommand(AGENT), time.monotonic() + 300
    array = {"name": "x", "dtype": "uint8", "shape": [1]}
    net = {"request": "net", "role": "candidate", "model_bytes": 1, "inputs": [array]}
    wrong = [
        {"request": "shell"},
        {"request": "__init__"},
        {},
        {**net, "role": "other"},
        {**net, "model_bytes": 0},
        {**net, "model_bytes": 2.0},
        {**net, "inputs": [{**array, "shape": [2]}]},
        {**net, "inputs": [{**array, "shape": [-1]}]},
        {**net, "inputs": [{**array, "dtype": "object"}]},
        {**net, "inputs": [array, array]},
        {**net, "inputs": 7},
    ]
    for number, ask in enumerate(wrong, start=1):
        pipe.write(pack({**ask, "number": number}, b"mx"), end=end)
        answer, _ = read_frame(lambda count: pipe.read(count, end=end))
        assert answer == {"error": "request", "number": number}, ask
    for number, ask in enumerate(({"request": "optimise", "providers": ["a"]}, {"request": "time"})):
        pipe.write(pack({**ask, "number": number}), end=end)
        assert read_frame(lambda count: pipe.read(count, end=end))[0]["error"] in ("no_model", "request")
    pipe.write(pack({**net, "number": 9}, b"mx"), end=end)
    assert read_frame(lambda count: pipe.read(count, end=end))[0]["number"] == 9
    pipe.close()


def test_every_changed_byte_of_a_frame_is_noticed() -> None:
    frame = pack({"request": "hello"}, b"body")

    def read_all(content: bytes) -> object:
        rest = bytearray(content)

        def read(count: int) -> bytes:
            taken = bytes(rest[:count])
            del rest[:count]
            if len(taken) < count:
                raise EOFError
            return taken

        return read_frame(read)

    assert read_all(frame) == ({"request": "hello"}, b"body")
    for place in range(len(frame)):
        for changed in (frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :], frame[:place]):
            with pytest.raises((ValueError, EOFError)):
                read_all(changed)
