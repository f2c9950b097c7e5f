"""Teachers of timm and Hugging Face from local files; the packages are imported only if a study asks for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from foreign import import_timm
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification
from nas_compress.teacher.given import build_given_module, load_given_teacher
from nas_compress.teacher.libraries import (
    RawPictures,
    hugging_face_description,
    hugging_face_names,
    hugging_face_weights,
    pictures_normalisation,
)

TASK = Classification.of_images(shape=(1, 8, 8), classes=10)
SAMPLES = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def load(folder: Path, **given: Any) -> nn.Module:
    section = TeacherSection(**given)
    return load_given_teacher(section, folder=folder, task=TASK, batch={"input": SAMPLES}, label="study.toml")


def refused(folder: Path, **given: Any) -> str:
    with pytest.raises(RequestError) as caught:
        load(folder, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_are_divided_by_255_and_normalised() -> None:
    raw = RawPictures(nn.Identity(), (0.2, 0.4, 0.6), (0.1, 0.2, 0.3), channels=1)
    # one channel: mean 0.4 and deviation 0.2
    assert raw(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item() == pytest.approx((1 - 0.4) / 0.2)
    three = RawPictures(nn.Identity(), (0.2, 0.4, 0.6), (0.1, 0.2, 0.3), channels=3)
    black = three(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten().tolist()
    assert black == pytest.approx([-2, -2, -2])
    assert list(raw.state_dict()) == [], "the file of a library's network has no constants of ours"


@pytest.mark.parametrize(("key", "package"), [("timm", "timm"), ("hugging_face", "transformers")])
def test_a_missing_package_is_one_line_with_the_command(
    key: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "net").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "net" / name).write_text("{}")
    (tmp_path / "w.pt").write_bytes(b"")
    given = {"timm": "resnet18", "weights": "w.pt"} if key == "timm" else {"hugging_face": "net"}
    assert refused(tmp_path, **given) == (
        f"teacher.{key} needs {package}, which is not installed: pip install 'nas-compress[{key}]'"
    )


def test_a_folder_without_config_or_weights_is_refused(tmp_path: Path) -> None:
    assert "teacher.hugging_face must be a file, but" in refused(tmp_path, hugging_face="net")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text("{}")
    assert "must be a folder with model.safetensors or model-*-of-*.safetensors or pytorch_model.bin or " in refused(
        tmp_path, hugging_face="net"
    )


def test_parts_of_weights_are_read_in_their_order(tmp_path: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (2, 1)]
    for name in (*names, "pytorch_model.bin"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in hugging_face_weights(tmp_path, "study.toml")] == sorted(names)


def test_other_weights_in_the_folder_are_left_out(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.fp16.safetensors", "model_ema.safetensors"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in hugging_face_weights(tmp_path, "study.toml")] == ["model.safetensors"]


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:net", "timm/resnet18"])
def test_a_name_that_timm_would_look_up_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"")
    assert refused(tmp_path, timm=name, weights="w.pt") == (
        f"study.toml: teacher.timm must be a name in timm itself, such as resnet18, but got {name!r}"
    )


@pytest.mark.parametrize(
    ("settings", "white"),
    [
        (None, (1 - 0.5) / 0.5),
        ({"image_mean": [0.25], "image_std": [0.5]}, (1 - 0.25) / 0.5),
        ({"image_mean": 0.25, "image_std": 0.5}, (1 - 0.25) / 0.5),
        ({"image_mean": [0.25], "image_std": [0.5], "do_normalize": False}, 1),
        ({"do_rescale": False, "image_mean": [55], "image_std": [100]}, 2),
        ({"rescale_factor": 2 / 255, "rescale_offset": True, "do_normalize": False}, 1),
    ],
)
def test_pictures_are_normalised_as_the_folder_says(
    settings: dict[str, Any] | None, white: float, tmp_path: Path
) -> None:
    if settings is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    raw = RawPictures(nn.Identity(), *pictures_normalisation(tmp_path, "study.toml"), channels=1)
    assert raw(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item() == pytest.approx(white)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no JSON", "must describe the pictures of the network, but it raised JSONDecodeError"),
        ("[]", "must describe the pictures of the network, but it raised AttributeError"),
        ('{"image_std": [0]}', "must be above 0"),
        ('{"do_flip_channel_order": true}', "must take colours in the order of the data, but"),
    ],
)
def test_other_descriptions_of_pictures_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(RequestError) as caught:
        pictures_normalisation(tmp_path, "study.toml")
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_changed_description_names_another_teacher(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    alone = hugging_face_description(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    both = hugging_face_description(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1]}')
    assert len({str(each) for each in (alone, both, hugging_face_description(tmp_path))}) == 3


def test_timm_loads_next_to_a_torchvision_for_another_torch(tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text(
        "import torch\n"
        "if not hasattr(torch.ops.torchvision, 'nms'):\n"
        "    raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    code = "from nas_compress.teacher.libraries import load_timm; print(load_timm().__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.strip() == str(tmp_path / "timm.py"), found.stderr
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::other does not exist')")
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "RequestError: teacher.timm needs timm, which is broken here (RuntimeError: operator" in found.stderr


def test_weights_with_names_of_an_older_release_are_taken_by_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(nn.Linear):
        config = SimpleNamespace(architectures=["Net"])

        @classmethod
        def from_pretrained(
            cls,
            name: None,
            *,
            config: object,
            state_dict: dict[str, torch.Tensor],
            output_loading_info: bool,
            torch_dtype: torch.dtype,
        ) -> tuple[nn.Module, dict[str, list[str]]]:
            assert name is None and config is cls.config and output_loading_info
            assert torch_dtype == torch.float32, "a configuration that names bfloat16 rounds no weights"
            network = cls(2, 3)
            renamed = {key.replace("old_", ""): value for key, value in state_dict.items()}
            return network, {"missing_keys": network.load_state_dict(renamed, strict=False).missing_keys}

    quiet = SimpleNamespace(logging=SimpleNamespace(disable_progress_bar=lambda: None))
    monkeypatch.setitem(sys.modules, "transformers", cast(Any, SimpleNamespace(Net=Net, utils=quiet)))
    given = {"old_weight": torch.ones(3, 2), "old_bias": torch.zeros(3)}
    found = hugging_face_names(Net(2, 3), given)
    assert list(found) == ["weight", "bias"] and torch.equal(found["weight"], given["old_weight"])
    for wrong in ({"old_bias": torch.zeros(3)}, {**given, "old_bias": torch.zeros(4)}, {**given, "epoch": 3}):
        assert hugging_face_names(Net(2, 3), wrong) is wrong, "the comparison of names tells the reason"


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_timm_is_built_for_the_data_and_loads_its_weights(tmp_path: Path) -> None:
    timm = import_timm()
    network = timm.create_model("resnet10t", num_classes=10, in_chans=1).eval()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, tmp_path / "w.pt"
    )
    teacher = load(tmp_path, timm="resnet10t", weights="w.pt")
    mean, std = (sum(network.pretrained_cfg[name]) / 3 for name in ("mean", "std"))
    torch.testing.assert_close(teacher(SAMPLES), network((SAMPLES / 255 - mean) / std), rtol=1e-4, atol=1e-4)
    section = TeacherSection(timm="resnet10t", weights="w.pt")
    built = build_given_module(section, folder=tmp_path, task=TASK, batch={"input": SAMPLES}, label="study.toml")
    assert built(SAMPLES).shape == (2, 10)
    assert "teacher.timm must name a network that fits the data, but 'resnet10q' raised" in refused(
        tmp_path, timm="resnet10q", weights="w.pt"
    )


@pytest.mark.filterwarnings("ignore")
def test_a_folder_of_hugging_face_answers_by_its_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=2,
        num_channels=1,
        num_labels=10,
    )
    network = transformers.ViTForImageClassification(config).eval()
    network.save_pretrained(tmp_path / "vit")
    settings = {"image_mean": [0.25], "image_std": [0.5]}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(settings))
    teacher = load(tmp_path, hugging_face="vit")
    expected = network((SAMPLES / 255 - 0.25) / 0.5).logits
    torch.testing.assert_close(teacher(SAMPLES), expected, rtol=1e-4, atol=1e-4)
