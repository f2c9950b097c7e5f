import pytest
import torch
from torch import Tensor, nn

from nas_compress.models.features import Observation, OneInputNetwork, watch

SAMPLES = torch.tensor([[[[1, 4]]]], dtype=torch.uint8)


class TwoHeads(OneInputNetwork):
    def observe(self, samples: Tensor, *, relations: bool = False) -> Observation:
        values = samples.float().flatten(1)
        return Observation(
            outputs={"logits": 2 * values}, label_head={"logits": values}, teacher_head={"logits": 3 * values}
        )


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(left - right), left + right


def test_a_call_returns_the_outputs() -> None:
    assert TwoHeads()(SAMPLES).tolist() == [[2.0, 8.0]]


def test_heads_learn_apart_if_there_are_two() -> None:
    seen = TwoHeads().observe(SAMPLES)
    assert seen.for_labels["logits"].tolist() == [[1.0, 4.0]] and seen.for_teacher["logits"].tolist() == [[3.0, 12.0]]
    one = Observation(outputs={"logits": torch.zeros(1, 2)})
    assert one.for_labels is one.for_teacher is one.outputs


def test_any_module_is_watched_with_all_its_inputs_and_outputs() -> None:
    batch = {"left": torch.tensor([[3.0]]), "right": torch.tensor([[1.0]])}
    seen = watch(TwoInputs(), batch, ["inner"], outputs=["difference", "total"])
    assert {name: value.item() for name, value in seen.outputs.items()} == {"difference": 2.0, "total": 4.0}
    assert seen.features["inner"].item() == 2.0


def test_a_network_of_images_must_say_how_it_is_observed() -> None:
    with pytest.raises(TypeError, match="abstract"):
        OneInputNetwork()  # type: ignore[abstract]
