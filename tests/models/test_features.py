import torch

from nas_compress.models.features import ObservableNetwork, Observation


class TwoHeads(ObservableNetwork):
    def observe(self, samples: torch.Tensor, *, relations: bool = False) -> Observation:
        values = samples.float().flatten(1)
        return Observation(logits=values, features={}, relations={}, distillation_logits=3 * values)


def test_one_classifier_answers_by_itself() -> None:
    logits = torch.tensor([[1.0, 2.0]])
    assert Observation(logits=logits, features={}, relations={}).answer is logits


def test_two_classifiers_answer_with_their_mean() -> None:
    samples = torch.tensor([[[[1, 4]]]], dtype=torch.uint8)
    assert TwoHeads()(samples).tolist() == [[2.0, 8.0]]
    assert TwoHeads().observe(samples).logits.tolist() == [[1.0, 4.0]]
