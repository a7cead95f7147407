"""Attacks on what training gives out, by somebody who knows which texts to ask for: they succeed on a twin without privacy and fail on ours.

Membership  Which conversations, and which pairs, was the model trained on?
Exposure    Which secret was planted? In a note that slipped through de-identification, told as an answer.
Inversion   Whose text is behind one update of one site, among a hundred known ones?
"""

import hashlib
import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from client.train.dp_sgd import open_step, private_step
from client.train.engines import FastEngine, Part, Task, UnitRows
from client.train.examples import poisson_sample
from client.train.objectives import CompletionLoss, EncodedPair, PairLoss
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, Factors, ModelConfig, TrainingConfig
from common.models import SharedBase
from common.privacy.accounting import calibrate
from common.privacy.mechanism import Mechanism, Unit
from common.secure.exchange import Summed
from server.evaluate.attacks import Secret, attack, membership
from server.evaluate.quality import Example
from server.evaluate.summary import AttackFigures
from server.federate.aggregate import OptimizerState, mean_direction, step
from tests.helpers.gradients import Listed

MODEL = ModelConfig(base="tiny", dtype="float32", max_prompt_tokens=40, max_answer_tokens=40)
EPSILON, DELTA, RATE, ROUNDS, CLIP = 2.0, 1e-5, 0.5, 120, 1.0
GRID = CLIP * 2.0**-16
WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heath",
    "inlet",
    "jetty",
    "knoll",
    "ledge",
    "marsh",
    "north",
    "orbit",
    "plain",
    "quarry",
    "ridge",
    "shoal",
    "tundra",
]


def key_of(*names: object) -> bytes:
    return hashlib.sha256(repr(names).encode()).digest()


def conversation(number: int) -> Example:
    draw = random.Random(number)
    return Example(" ".join(draw.choices(WORDS, k=4)) + "?", " ".join(draw.choices(WORDS, k=6)) + ".")


def told(desk: int, secret: int) -> Example:
    return Example(f"Which case at desk {desk}?", f"Case {secret:08d}.")


@cache
def base() -> SharedBase:
    return load_base("tiny", "float32")


def trained(units: Sequence[Sequence[object]], objective: object, *, private: bool, rate: float, head: bool = False) -> Adapter:
    """`ROUNDS` rounds of one site over `units`, at ε = 2 for one of them, or without privacy. The name `under attack` is on the base afterwards."""
    spec = base().spec(AdapterConfig(rank=8, alpha=16.0, factors=Factors.LORA), head=head)
    adapter, data, expected = spec.initial(), Listed(units), RATE * len(units)
    training = TrainingConfig(rounds=ROUNDS, server_learning_rate=rate)
    state: OptimizerState = {}
    mechanism = Mechanism(calibrate(EPSILON, DELTA, RATE, ROUNDS), RATE, CLIP, expected, Unit.PATIENT)
    for number in range(ROUNDS):
        base().put("under attack", adapter)
        task = Task(base(), "under attack", spec.trained(number), objective)  # type: ignore[arg-type]  # rows of either kind
        key = key_of("round", number)
        drawn: list[UnitRows[object]] = poisson_sample(data, rate=RATE, rows_per_unit=1, key=key)
        if private:
            result = private_step(task, FastEngine(), drawn, mechanism, key=key, grid=GRID, sites=4, token_budget=2000)
        else:
            result = open_step(task, FastEngine(), drawn, grid=GRID, sites=4, token_budget=2000)
        direction = mean_direction(Summed(result.words, ("site",)), GRID, {"site": expected})
        adapter, state = step(training, number, adapter, direction, state)
    base().put("under attack", adapter)
    return adapter


# -- conversations and secrets -----------------------------------------------------------------------------------------

# Even numbers and odd ones: nothing but training tells them apart.
MEMBERS = [conversation(n) for n in range(0, 48, 2)]
OTHERS = [conversation(n) for n in range(1, 48, 2)]


def secrets() -> list[Secret]:
    draw = random.Random(8)
    drawn = [[draw.randrange(10**8) for _ in range(64)] for _ in range(4)]
    return [Secret(told(desk, own[0]), [told(desk, other) for other in own[1:]]) for desk, own in enumerate(drawn)]


def attacked(*, private: bool) -> AttackFigures:
    texts = [*MEMBERS, *(secret.planted for secret in secrets())]
    rows = [[base().encode(t.prompt, t.answer, max_prompt_tokens=40, max_answer_tokens=40)] for t in texts]
    trained(rows, CompletionLoss(), private=private, rate=2e-2)
    draws = np.random.default_rng(0)
    return attack(base(), ["under attack"], MEMBERS, OTHERS, secrets(), MODEL, epsilon=EPSILON, delta=DELTA, rng=draws)


def test_members_and_secrets_of_a_model_without_privacy_are_found_and_ours_are_not() -> None:
    (twin,), (exposed,) = (found := attacked(private=False)).membership, found.exposure
    (ours,), (hidden,) = (kept := attacked(private=True)).membership, kept.exposure
    assert twin.area.low > ours.permitted, f"without privacy the attack finds members with {twin.area}: no more than ε = 2 permits"
    assert exposed.bits.value > exposed.most - 1, f"without privacy the secrets have {exposed.bits} of {exposed.most} bits"
    assert ours.area.low < 0.5 < ours.permitted < 0.9
    assert ours.area.value < 0.65, ours.area
    assert hidden.bits.value < hidden.chance + 1.5, f"{hidden.bits}, chance is {hidden.chance:.2f}"


# -- preferences -------------------------------------------------------------------------------------------------------


def choice(number: int) -> EncodedPair:
    """A choice without a reason: nobody can guess it who has not seen it."""
    better, worse = (
        base().encode(
            conversation(number).prompt, conversation(1000 + 2 * number + side).answer, max_prompt_tokens=40, max_answer_tokens=40
        )
        for side in (0, 1)
    )
    return EncodedPair(better, worse)


def margins(numbers: range) -> NDArray[np.float64]:
    pairs = [choice(n) for n in numbers]
    with torch.inference_mode():
        (scores,) = base().rewards(["under attack"], [row for pair in pairs for row in (pair.chosen, pair.rejected)])
    better, worse = scores.double().numpy().reshape(-1, 2).T
    found: NDArray[np.float64] = better - worse
    return found


def test_choices_of_a_reward_without_privacy_are_found_and_ours_are_not() -> None:
    found = {}
    for private in (False, True):
        trained([[choice(n)] for n in range(0, 48, 2)], PairLoss(0.0), private=private, rate=5e-3, head=True)
        found[private] = membership(margins(range(0, 48, 2)), margins(range(1, 48, 2)))
    assert found[False].low > 0.8, f"without privacy the attack finds {found[False]}"
    assert found[True].low < 0.5, found[True]
    assert found[True].value < 0.65, found[True]


# -- one update of one site --------------------------------------------------------------------------------------------

KNOWN, UPDATES = 100, 40


def guessed(*, noise: float) -> float:
    """Share of updates of one unit whose text the attacker names among `KNOWN`, by projecting the update on each text's own gradient."""
    spec = base().spec(AdapterConfig(rank=8, alpha=16.0))
    draws = torch.Generator().manual_seed(5)
    base().put("local", Adapter(spec, {t.name: (torch.randn(t.shape, generator=draws) * 0.1).numpy() for t in spec.tensors}))
    task = Task(base(), "local", spec.trained(), CompletionLoss())
    texts = [conversation(n) for n in range(KNOWN)]
    rows = [base().encode(t.prompt, t.answer, max_prompt_tokens=40, max_answer_tokens=40) for t in texts]
    gradients = torch.cat([FastEngine().gradients(task, [Part((row,), 1.0)]) for row in rows])
    directions = torch.nn.functional.normalize(gradients - gradients.mean(0), dim=1).double().numpy()
    clip = float(gradients.norm(dim=1).min())
    mechanism = Mechanism(calibrate(1.0, DELTA, 1.0, 1), 1.0, clip, 1.0, Unit.PATIENT)
    right = 0
    for number in range(UPDATES):
        result = private_step(
            task, FastEngine(), [UnitRows((rows[number],))], mechanism, key=key_of("update", number), grid=clip * 2.0**-16, sites=4,
            token_budget=2000, noise_share=noise,
        )  # fmt: skip
        right += int(np.argmax(-directions @ result.words)) == number
    return right / UPDATES


def test_the_text_behind_one_update_is_named_without_noise_and_not_with_it() -> None:
    """At ε = 1, without the masks: the coordinator of a plain exchange, who knows every candidate."""
    assert guessed(noise=0.0) > 0.95, "without noise the attack does not find the text: it has no power"
    assert guessed(noise=1.0) <= 0.1
