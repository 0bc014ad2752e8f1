"""The steps of nano's recipe that teach it names of sounds."""

import numpy as np
import torch
from heard import BROAD, SURE, UNSURE, Sounds, asks
from questions import NO_PICTURE
from sound_classifier import layer, state_dict
from sound_names import GENERAL, NAMES, SHARES, bare, members, numbers, sound_dictionary
from torch import Tensor

from videollama2.sound_names import PROJECTORS, SoundDictionary
from videollama2.yamnet import CLASSES, Yamnet

from ..close import same_numbers
from .small import tokenizer


def scores(**shares: float) -> Tensor:
    """f32[521] with these probabilities, of classes c0 to c520, and nothing else."""
    out = torch.full((CLASSES,), 1e-3)
    for name, share in shares.items():
        out[int(name[1:])] = share
    return out.logit()


def sounds_of(**shares: float) -> list[str]:
    """The two best names of classes with these probabilities."""
    probabilities = scores(**shares).sigmoid()
    return [list(NAMES)[i] for i in (probabilities * members(NAMES)).amax(1).topk(2).indices.tolist()]


def test_every_name_has_classes_and_no_class_has_two_names() -> None:
    naming = PROJECTORS["mlp2x_gelu_names"]
    assert (len(NAMES), len(GENERAL), CLASSES) == (naming.names, naming.general, naming.classes)
    assert numbers("3-5 9") == [3, 4, 5, 9]
    member = members(NAMES)
    assert member.any(1).all() and (member > 0).sum(0).max() == 1 + 1  # "a baby" laughs, and laughter is its own name
    assert set(SHARES) <= set(NAMES) and (members(GENERAL) <= 1).all()
    assert sounds_of(c94=0.9, c96=0.8) == ["a rooster", "chickens"]  # which "Chicken, rooster" would hide
    assert sounds_of(c0=0.95, c63=0.12) == ["a crowd", "speech"] and sounds_of(c0=0.95, c63=0.01)[0] == "speech"
    assert bare("an owl") == "owl" and bare("bells") == "bells"


@torch.no_grad()
def test_the_dictionary_spells_the_best_name_in_the_language_models_words() -> None:
    naming, words = PROJECTORS["mlp2x_gelu_names"], tokenizer()
    embeddings = torch.randn(len(words), 6)
    names = SoundDictionary(naming, 6)
    names.load_state_dict(sound_dictionary(words, embeddings, naming))
    owl = NAMES["an owl"].partition("-")[0]
    tokens = names(scores(**{f"c{owl}": 0.8})[None, None])[0]
    ids = words.encode(" owl", add_special_tokens=False)[: naming.words]
    same_numbers(tokens[1 : 1 + len(ids)], embeddings[ids])
    doubtful, certain = names.certainty
    torch.testing.assert_close(tokens[0], doubtful + 0.8 * (certain - doubtful))


def test_what_is_said_follows_from_the_probabilities_alone() -> None:
    sounds = Sounds()
    dog, cow, animal = 69, 86, 67
    assert sounds.heard(scores(c69=0.9, c67=0.95)).phrase == "a dog"
    assert sounds.heard(scores(c69=0.9, c86=0.8)).phrase == "a dog and a cow"
    assert sounds.heard(scores(c69=0.2, c67=0.8)).phrase == "an animal, maybe a dog"
    assert sounds.heard(scores(c69=0.2, c86=0.15)).phrase == "maybe a dog or a cow"
    assert sounds.heard(scores()).phrase == ""
    known = sounds.heard(scores(**{f"c{animal}": BROAD + 0.1, f"c{dog}": SURE + 0.1, f"c{cow}": 0.01}))
    assert sounds.general[known.general or 0] == "an animal" and sounds.names[known.best or 0] == "a dog"


def test_questions_about_made_up_scores_have_answers_of_what_they_say() -> None:
    sounds, rng = Sounds(), np.random.default_rng(0)
    first, last = scores(c69=0.9), scores(c86=0.9)
    found = {one.kind: one for _ in range(40) for one in asks(sounds, [first, last], rng, 8)}
    assert found["sound"].answer == "A dog, then a cow." and found["last_heard"].answer == "A cow."
    choice = found["lettered"].answer.rstrip(".")
    assert choice == "A dog" and found["lettered"].question.count("a dog") == 1
    assert found["both"].answer == "I see nothing, and I hear a dog, then a cow."
    assert found["describe"].answer == "I hear a dog, then a cow." and found["object"].answer == NO_PICTURE
    heard = [one for _ in range(40) for one in asks(sounds, [first, first], rng, 8) if one.kind == "is_heard"]
    assert all(("a dog" in one.question) == one.answer.startswith("Yes") for one in heard)
    assert {one.answer for one in heard} == {"Yes, I hear a dog.", "No, I hear a dog."}
    unsure = [one for one in asks(sounds, [scores(), scores()], rng, 30) if one.kind == "sound"]
    assert {one.answer for one in unsure} == {UNSURE}


def test_made_up_scores_reach_every_name_and_are_as_unsure_as_the_classifier() -> None:
    sounds, rng = Sounds(), np.random.default_rng(1)
    made = [sounds.heard(sounds.made_up(rng)) for _ in range(2000)]
    sure = [each.best for each in made if each.best is not None]
    assert len(set(sure)) > 0.9 * len(NAMES) and 0.5 < len(sure) / len(made) < 0.9
    assert sum("maybe" in each.phrase for each in made) > 100 and any(each.phrase == "" for each in made)


def test_quantised_layers_become_those_of_our_classifier() -> None:
    steps = np.array([0.5, 2.0], np.float32)

    def of(integers: np.ndarray, axis: int) -> tuple[dict[str, object], np.ndarray]:
        return {"quantization_parameters": {"scales": steps, "quantized_dimension": axis}}, integers

    bias = of(np.array([4, -1], np.int32), 0)
    full = np.arange(2 * 3 * 3 * 1, dtype=np.int8).reshape(2, 3, 3, 1)
    weight, offset = layer(of(full, 0), bias)
    assert weight.shape == (2, 1, 3, 3) and weight[1, 0, 0, 1] == 10 * 2 and offset.tolist() == [2.0, -2.0]
    deep = np.arange(18, dtype=np.int8).reshape(1, 3, 3, 2)
    weight, _ = layer(of(deep, 3), bias)
    assert weight.shape == (2, 1, 3, 3) and weight[1, 0, 0, 1] == 3 * 2 and weight[0, 0, 0, 1] == 2 * 0.5
    model = Yamnet()
    named = state_dict([(p, q) for p, q in zip(*[iter(model.state_dict().values())] * 2, strict=True)])
    assert list(named) == list(model.state_dict())
