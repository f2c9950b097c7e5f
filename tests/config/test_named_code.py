"""The lines about code before it is loaded: which file, and none is imported to find it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from nas_compress.config.schema import DataSection, StudySpec
from nas_compress.config.study_file import StudyFile
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.config.user_code_files import named_code
from nas_compress.files import digest_of_file
from nas_compress.user_code import code_digest, module_file, user_callable
from nas_compress.values.candidate import Candidate

TRAP = "raise AssertionError('imported')"


def study(folder: Path, data: str, *, space: str = "space.py", teacher: str | None = None) -> StudyFile:
    section = TeacherSection() if teacher is None else TeacherSection(factory=teacher, weights="w.safetensors")
    spec = StudySpec(name="mine", space=space, data=DataSection(factory=data), teacher=section)
    return StudyFile(spec=spec, folder=folder, label="study.toml")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder with a space, a module and a package, in another working folder."""
    folder, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    (folder / "nets").mkdir(parents=True)
    elsewhere.mkdir()
    for path in ("space.py", "my_data.py", "nets/__init__.py", "nets/small.py"):
        (folder / path).write_text(TRAP)
    (elsewhere / "here.py").write_text(TRAP)
    monkeypatch.chdir(elsewhere)
    return folder


def test_each_file_is_named_with_its_folder(own: Path) -> None:
    assert list(map(str, named_code(study(own, "my_data:load", teacher="nets.small:build")))) == [
        f"loads space.py (suggest) from {own}",
        f"loads my_data.py (my_data:load) from {own}",
        f"loads nets/small.py (nets.small:build) from {own}",
    ]
    (package,) = named_code(study(own, "nets:load", space="cnn"))
    assert str(package) == f"loads nets/__init__.py (nets:load) from {own}"


def test_a_torchscript_file_is_code_of_the_study(own: Path) -> None:
    spec = StudySpec(
        name="mine", space="cnn", data=DataSection(name="digits"), teacher=TeacherSection(weights="net.pt")
    )
    file = StudyFile(spec=spec, folder=own, label="study.toml")
    for name, code in (("net/data.pkl", ()), ("net/code/__torch__.py", ("net.pt (teacher.weights)",))):
        with zipfile.ZipFile(own / "net.pt", "w") as archive:
            archive.writestr(name, "")
        assert [str(each) for each in named_code(file)] == [f"loads {text} from {own}" for text in code]


def test_the_working_folder_is_searched_last(own: Path) -> None:
    elsewhere = Path.cwd()
    assert module_file("here:load", folder=own) == elsewhere / "here.py"
    (elsewhere / "my_data.py").write_text(TRAP)
    (elsewhere / "numpy.py").write_text(TRAP)
    assert module_file("my_data:load", folder=own) == own / "my_data.py"
    assert module_file("numpy:load", folder=own) == Path(sys.modules["numpy"].__file__ or "")


def test_a_built_in_space_or_one_candidate_is_no_code(own: Path) -> None:
    assert named_code(study(own, "nowhere:load", space="cnn")) == ()
    one = StudyFile(
        spec=study(own, "nowhere:load").spec,
        folder=own,
        label="config.json",
        candidate=Candidate(family="resnet", depths=(1, 1, 1)),
    )
    assert named_code(one) == ()


def test_the_loaded_file_is_the_named_one(own: Path) -> None:
    other = own / "other"
    other.mkdir()
    for folder, value in ((own, 1), (other, 2)):
        (folder / "my_numbers.py").write_text(f"def load(): return {value}")
        with user_callable("my_numbers:load", folder=folder, where="") as function:
            assert function() == value
            assert sys.modules["my_numbers"].__file__ == str(module_file("my_numbers:load", folder=folder))
    del sys.modules["my_numbers"]


def test_a_file_named_as_a_library_in_the_working_folder_does_not_unload_the_library(own: Path) -> None:
    (Path.cwd() / "numpy.py").write_text(TRAP)
    before = sys.modules["numpy"]
    with user_callable("numpy:zeros", folder=own, where="") as function:
        assert function is before.zeros
    assert sys.modules["numpy"] is before


def test_the_digest_follows_the_modules_in_the_same_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    texts = {
        "lone.py": "import os, numpy\n",
        "near.py": "def load():\n    from parts import of\n",
        "parts/__init__.py": "from . import of\n",
        "parts/of.py": "import numpy as np\nfrom .deep import VALUE\n",
        "parts/deep.py": "VALUE = 1\nimport near\n",
        "other.py": "VALUE = 1\n",
        "broken.py": "def (",
    }
    for name, text in texts.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)

    def digests() -> dict[str, str | None]:
        return {name: code_digest(f"{name}:load", folder=home) for name in ("lone", "near", "parts.of", "broken")}

    before = digests()
    assert before["lone"] == digest_of_file(home / "lone.py"), "a module alone keeps the digest of earlier versions"
    assert before["broken"] == digest_of_file(home / "broken.py")
    (home / "other.py").write_text("VALUE = 2\n")
    assert digests() == before, "nothing imports it"
    (home / "parts" / "deep.py").write_text("VALUE = 2\nimport near\n")
    after = digests()
    assert {name for name, digest in after.items() if digest != before[name]} == {"near", "parts.of"}
    assert code_digest("missing:load", folder=home) is None
    home.rename(tmp_path / "moved")
    moved = {name: code_digest(f"{name}:load", folder=tmp_path / "moved") for name in after}
    assert moved == after, "the place of the folder does not matter"
