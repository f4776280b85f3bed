"""Derivatives by parameters where elements elect a sign: the formula by hand, without the elements that jump."""

import math

import torch

from evomerge.methods import Direction, Inputs, Settings, derivatives, directions, get

SIZE = 4096


def tensors(seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(SIZE, generator=generator) * 0.02
    models = [base + torch.randn(SIZE, generator=generator) * 0.005 for _ in range(3)]
    return Inputs(models=models, base=base, tensor="t", parents=["a", "b", "c"], seed=1)


def settings(weights: list[float]) -> Settings:
    shared = {"normalize": True, "lambda": 1.0, "rescale": False, "int8_mask": False}
    return Settings.of(shared, [{"weight": weight, "density": 1.0} for weight in weights])


def test_ties_with_the_election_held_fixed() -> None:
    inputs, weights = tensors(0), [0.5, 0.3, 0.4]
    gradient = torch.randn(SIZE, generator=torch.Generator().manual_seed(9))
    wanted = [Direction("weight", model) for model in range(3)]
    found = derivatives(get("ties"), inputs, settings(weights), gradient, wanted)
    assert inputs.base is not None
    deltas = torch.stack([model - inputs.base for model in inputs.models]).double()
    factors = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    weighted = factors[:, None] * deltas
    agree = (torch.sign(weighted.detach()) == torch.sign(weighted.detach().sum(0))).double()
    merged = (weighted * agree).sum(0) / (factors[:, None] * agree).sum(0)
    (expected,) = torch.autograd.grad((merged * gradient.double()).sum(), factors)
    size = float(expected.abs().max())
    assert torch.allclose(torch.tensor(found, dtype=torch.float64), expected, rtol=0.02, atol=0.02 * size)


def test_only_numbers_that_act_smoothly_are_directions() -> None:
    found = directions(get("ties"), settings([0.5, 0.3, 0.4]))
    assert set(found) == {Direction("lambda", None), *(Direction("weight", model) for model in range(3))}


def test_a_sum_of_weights_of_zero_has_no_derivative() -> None:
    inputs = tensors(1)
    values = Settings.of({"normalize": True}, [{"weight": weight} for weight in (1e-4, 0.0)])
    pair = Inputs(models=inputs.models[:2], tensor="t", parents=["a", "b"])
    (found,) = derivatives(get("linear"), pair, values, torch.ones(SIZE), [Direction("weight", 0)])
    assert math.isnan(found)
