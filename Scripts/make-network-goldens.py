#!/usr/bin/env python3
"""Golden cases of the networks of the classics (NADE, RNADE, FVBN, Bengio and Bengio's), by PyTorch in double precision.

    python3 -m venv .venv && .venv/bin/pip install torch numpy
    .venv/bin/python Scripts/make-network-goldens.py Tests/TrainingTests/Goldens/networks.safetensors

Each is written here as its paper's equations have it, variable by variable. A case holds its weights under the names that our modules
give them (`case/weight`), inputs `case/x`, the parameters of the conditionals `case/parameters` in the order of the variables, -log p of
each example `case/nats`, and the gradient of their mean by each weight `case/gradient/weight`.
"""
import math, sys
import numpy as np
import torch
import torch.nn.functional as F

from goldens import save

torch.manual_seed(11)
torch.set_default_dtype(torch.float64)
out = {}


def put(name, value):
    out[name] = np.ascontiguousarray(value.detach().numpy(), dtype=np.float64)


def weights(**shapes):
    """Numbers that float32 holds exactly, so that a comparison in float32 measures the arithmetic alone."""
    return {name: (0.6 * torch.randn(*shape)).float().double().requires_grad_() for name, shape in shapes.items()}


# Negative log-probabilities of x [batch] given parameters [batch, P].
def bernoulli(p, x):
    return F.binary_cross_entropy_with_logits(p[:, 0], x, reduction="none")


def categorical(p, x):
    return F.cross_entropy(p, x.long(), reduction="none")


def mixture(p, x):
    weight, mean, scale = p.chunk(3, 1)
    scale = 7 * torch.tanh(scale / 7)
    density = -0.5 * ((x[:, None] - mean) * torch.exp(-scale)) ** 2 - scale - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(F.log_softmax(weight, 1) + density, 1)


def case(name, x, order, w, conditional, parameters):
    """parameters(places) gives [batch, P] of the variable drawn at a place; order lists the variables as they are drawn."""
    found, nats = {}, 0
    for place, variable in enumerate(order):
        found[variable] = parameters(place)
        nats = nats + conditional(found[variable], x[:, variable])
    put(f"{name}/x", x)
    put(f"{name}/parameters", torch.stack([found[v] for v in range(len(order))], 2))
    put(f"{name}/nats", nats)
    nats.mean().backward()
    for key, value in w.items():
        put(f"{name}/{key}", value)
        put(f"{name}/gradient/{key}", value.grad)


def encoded(x, order, levels):
    """The variables as they are drawn, [batch, D, inputs]."""
    x = x[:, order]
    return x[:, :, None] if levels == 1 else F.one_hot(x.long(), levels).double()


def nade(name, D, H, order, levels=1, conditional=bernoulli, P=1, act=torch.sigmoid, scaled=False, tied=False, batch=5):
    x = torch.randint(0, max(2, levels), (batch, D)).double() if conditional is not mixture else torch.randn(batch, D).float().double()
    shapes = dict(weight=(D, levels, H), hiddenBias=(H,), bias=(P, D))
    if not tied: shapes["output"] = (D, P, H)
    if scaled: shapes["scale"] = (D,)
    w = weights(**shapes)
    rows = encoded(x, order, levels)

    def parameters(place):
        a = w["hiddenBias"].expand(batch, H)
        for j in range(place):
            a = a + rows[:, j] @ w["weight"][j]
        h = act(a * w["scale"][place] if scaled else a)
        return h @ w["weight" if tied else "output"][place].T + w["bias"][:, place]

    case(name, x, order, w, conditional, parameters)


def fvbn(name, D, order, levels=1, conditional=bernoulli, P=1, batch=5):
    x = torch.randint(0, max(2, levels), (batch, D)).double() if conditional is not mixture else torch.randn(batch, D).float().double()
    w = weights(**{"layers.0.weight": (P * D, levels * D), "layers.0.bias": (P * D,)})
    inputs = x if levels == 1 else F.one_hot(x.long(), levels).double().transpose(1, 2).reshape(batch, -1)
    place = {v: i for i, v in enumerate(order)}
    # Dead weights are zero.
    mask = torch.tensor([[float(place[i % D] < place[o % D]) for i in range(levels * D)] for o in range(P * D)])
    w["layers.0.weight"].data *= mask

    def parameters(p):
        v = order[p]
        rows = [k * D + v for k in range(P)]
        live = [i for i in range(levels * D) if place[i % D] < p]
        return inputs[:, live] @ w["layers.0.weight"][rows][:, live].T + w["layers.0.bias"][rows]

    case(name, x, order, w, conditional, parameters)


def bengio(name, D, n, order, levels=1, conditional=bernoulli, P=1, direct=True, tied=False, batch=5):
    x = torch.randint(0, max(2, levels), (batch, D)).double()
    shapes = dict(output=(D, P, n), bias=(P, D))
    if tied: shapes.update(sharedWeight=(D, levels, n), sharedBias=(D, 1, n))
    else: shapes.update({"hidden.weight": (D * n, levels * D), "hidden.bias": (D * n,)})
    if direct: shapes["direct.weight"] = (P * D, levels * D)
    w = weights(**shapes)
    inputs = x if levels == 1 else F.one_hot(x.long(), levels).double().transpose(1, 2).reshape(batch, -1)
    place = {v: i for i, v in enumerate(order)}
    rows = encoded(x, order, levels)
    if not tied:
        w["hidden.weight"].data *= torch.tensor([[float(place[i % D] < u // n) for i in range(levels * D)] for u in range(D * n)])
    if direct:
        w["direct.weight"].data *= torch.tensor(
            [[float(place[i % D] < place[o % D]) for i in range(levels * D)] for o in range(P * D)])

    def parameters(p):
        live = [i for i in range(levels * D) if place[i % D] < p]
        if tied:
            a = w["sharedBias"][p] + sum((rows[:, j] @ w["sharedWeight"][j] for j in range(p)), torch.zeros(batch, n))
        else:
            group = slice(p * n, (p + 1) * n)
            a = inputs[:, live] @ w["hidden.weight"][group][:, live].T + w["hidden.bias"][group]
        result = torch.tanh(a) @ w["output"][p].T + w["bias"][:, p]
        if direct:
            result = result + inputs[:, live] @ w["direct.weight"][[k * D + order[p] for k in range(P)]][:, live].T
        return result

    case(name, x, order, w, conditional, parameters)


nade("nade", 11, 7, [3, 0, 7, 10, 1, 9, 5, 2, 8, 6, 4])
nade("nade-tied", 6, 5, list(range(6)), tied=True)
nade("nade-categorical", 5, 6, [4, 1, 0, 3, 2], levels=4, conditional=categorical, P=4)
nade("rnade", 5, 6, [0, 1, 2, 3, 4], conditional=mixture, P=6, act=torch.relu, scaled=True)
fvbn("fvbn", 9, [8, 2, 0, 7, 1, 3, 6, 5, 4])
fvbn("fvbn-categorical", 4, [0, 1, 2, 3], levels=3, conditional=categorical, P=3)
fvbn("fvbn-gaussian", 4, [1, 0, 3, 2], conditional=mixture, P=3)
bengio("bengio", 6, 3, [2, 0, 5, 1, 4, 3])
bengio("bengio-tied", 6, 3, [2, 0, 5, 1, 4, 3], direct=False, tied=True)
bengio("bengio-categorical", 4, 3, [0, 1, 2, 3], levels=3, conditional=categorical, P=3)

save(sys.argv[1], {name: torch.from_numpy(value) for name, value in sorted(out.items())})
