"""Transfer sets of texts: what a view keeps, what it changes, and who learns from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas_compress.data.augment.choose import Drawing
from nas_compress.data.augment.protocol import NoAugmentation
from nas_compress.data.augment.transfer_text import CUT, MASKED, REPLACED, UNKNOWN_ID, TransferText, transfer_text
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.text.parts import TextSettings
from nas_compress.data.text.tables import TextFiles
from nas_compress.errors import RequestError
from nas_compress.values.signature import token_input
from nas_compress.values.text.word_pieces import WordPieces

WHERE = "study.toml: data.name"
SAMPLES, LENGTH = 400, 12
# ids 2 to 11 begin a word, ids 12 to 15 continue one
INSIDE = torch.tensor([False] * 12 + [True] * 4)


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    """Texts of 6 words of two pieces each."""
    chance = torch.Generator().manual_seed(0)
    first = torch.randint(2, 12, (SAMPLES, LENGTH // 2), generator=chance)
    second = torch.randint(12, 16, (SAMPLES, LENGTH // 2), generator=chance)
    return torch.stack([first, second], dim=2).reshape(SAMPLES, LENGTH).to(torch.int32)


def views_of(ids: torch.Tensor, seed: int = 0, views: int = 4) -> list[torch.Tensor]:
    made = TransferText(views=views, seed=seed, inside=INSIDE).over({"input": ids})
    return [made.batch(torch.arange(len(ids)), view)["input"] for view in range(views)]


def test_the_first_view_is_the_text_and_all_others_differ(ids: torch.Tensor) -> None:
    plain, *others = views_of(ids)
    assert torch.equal(plain, ids)
    assert all((other != ids).any(dim=1).float().mean() > 0.5 for other in others)
    assert not torch.equal(others[0], others[1])
    assert all(torch.equal(*pair) for pair in zip(others, views_of(ids)[1:], strict=True))
    assert not torch.equal(others[0], views_of(ids, seed=1)[1])


def test_a_view_of_a_sample_does_not_depend_on_its_batch(ids: torch.Tensor) -> None:
    made = TransferText(views=2, seed=0, inside=INSIDE).over({"input": ids})
    index = torch.tensor([7, 3, 200])
    assert torch.equal(made.batch(index, 1)["input"], views_of(ids)[1][index])


def test_padding_stays_behind_tokens_and_no_text_is_empty(ids: torch.Tensor) -> None:
    for view in views_of(ids):
        padding = view == 0
        assert not bool(padding[:, 0].any())
        assert not bool((padding[:, :-1] & ~padding[:, 1:]).any())
        assert view.dtype == torch.int32


def test_words_are_masked_replaced_and_cut_as_often_as_the_paper_says(ids: torch.Tensor) -> None:
    view = torch.cat(views_of(ids, views=9)[1:])
    words = ((view != 0) & ~INSIDE[view.long()]).sum(dim=1)
    # a text has all its 6 words, or 1 to 5 of them
    assert abs(float((words < 6).float().mean()) - CUT) < 0.04
    whole = view[words == 6]
    assert abs(float((whole == UNKNOWN_ID).sum() / (6 * len(whole))) - MASKED) < 0.02
    # masked and replaced words lose their second piece; half of the drawn places begin a word
    lost = 1 - float(INSIDE[whole.long()].sum() / (6 * len(whole)))
    assert abs(lost - (MASKED + REPLACED / 2)) < 0.02


def test_trainings_on_labels_have_the_texts_as_they_are() -> None:
    assert TransferText(views=2, seed=0, inside=INSIDE).for_labels == NoAugmentation()


def texts_in(folder: Path) -> TextFiles:
    rows = "\n".join(f"{word} film number {number},{number % 2}" for number, word in enumerate(["bad", "good"] * 30))
    (folder / "train.csv").write_text(f"text,label\n{rows}\n")
    return TextFiles(path=str(folder))


def test_a_study_names_it_by_its_word(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    data = load_dataset(texts=texts_in(tmp_path), drawing=Drawing(augment="transfer_text", views=3), where=WHERE)
    assert isinstance(data.augmentation, TransferText) and data.augmentation.count == 3
    assert bool(data.augmentation.inside.any())
    batch = data.augmentation.over(data.train.inputs).batch(torch.arange(4), 2)
    assert batch["input"].shape == data.train.inputs["input"][:4].shape


def test_marks_of_a_vocabulary_stay_and_masked_words_are_its_unknown_piece() -> None:
    pieces = WordPieces(pieces=("[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefgh", "##s"), longest=10, framed=True)
    chance = torch.Generator().manual_seed(0)
    texts = ["".join(f"{'abcdefgh'[k]}s " for k in torch.randint(8, (4,), generator=chance)) for _ in range(200)]
    ids = torch.tensor([pieces.encode(text) for text in texts], dtype=torch.int32)
    made = transfer_text((token_input(len(pieces.pieces), pieces=pieces),), views=4, seed=0)
    view = made.over({"input": ids}).batch(torch.arange(200), 1)["input"]
    lengths = (view != 0).sum(dim=1)
    assert bool((view[:, 0] == 1).all()) and bool((view.gather(1, lengths[:, None] - 1) == 2).all())
    assert bool(((view == 1).sum(dim=1) == 1).all()) and bool(((view == 2).sum(dim=1) == 1).all())
    assert int(lengths.min()) < 6 and int((view == 3).sum()) > 0


def test_bytes_of_hashed_words_are_refused(tmp_path: Path) -> None:
    settings = TextSettings(buckets=50)
    with pytest.raises(RequestError, match="needs word pieces, but got bytes of 50 hash_buckets"):
        load_dataset(
            texts=texts_in(tmp_path), text_settings=settings, drawing=Drawing(augment="transfer_text"), where=WHERE
        )


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (Drawing(augment="transfer_text"), "needs one input of token ids"),
        (Drawing(augment="transfer_text", crop=0.5), "must be the only change of texts"),
        (Drawing(augment="transfer_text", views=1), "views >= 2 must hold"),
    ],
)
def test_pictures_and_further_changes_are_refused(drawing: Drawing, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_dataset(name="digits", train_samples=100, drawing=drawing, where=WHERE)
