#!/usr/bin/env python3
"""Golden cases of flows in continuous time, by torchdiffeq and zuko in double precision.

    python3 -m venv .venv && .venv/bin/pip install torch numpy torchdiffeq zuko
    .venv/bin/python Scripts/make-continuous-goldens.py Tests/BijectorsTests/Goldens/continuous.safetensors

A case holds the weights of its velocity under the names that our modules give them (`case/layers.0..`), examples `case/x`, and log p under
a standard normal `case/logProbability`. The velocities of torchdiffeq's cases are FFJORD's (Grathwohl et al. 2019), written here as
the paper's code has them: "concatsquash" and "concat" layers. The trace is that of the Jacobian by reverse mode, whole.
"""
import math, sys
import torch
import torch.nn.functional as F
from torchdiffeq import odeint

from goldens import save

torch.manual_seed(23)
torch.set_default_dtype(torch.float64)
out = {}


def single(values):
    """Numbers that float32 holds exactly, so that a comparison in float32 measures the arithmetic alone."""
    return values.float().double()


def network(case, widths, squash, act, scale):
    weights = {}
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        shapes = {"linear.weight": (m, n), "linear.bias": (m,), "shift": (m, 1)}
        if squash and i < len(widths) - 2:
            shapes.update({"gate.weight": (m, 1), "gate.bias": (m,)})
        for name, shape in shapes.items():
            weights[f"layers.{i}.{name}"] = single(scale * torch.randn(shape))
    out.update({f"{case}/{name}": value for name, value in weights.items()})

    def velocity(t, z):
        u = t.reshape(1, 1)
        for i in range(len(widths) - 1):
            w = lambda name: weights[f"layers.{i}.{name}"]
            z = z @ w("linear.weight").T + w("linear.bias")
            if f"layers.{i}.gate.weight" in weights:
                z = z * torch.sigmoid(u @ w("gate.weight").T + w("gate.bias"))
            z = z + u @ w("shift").T
            if i < len(widths) - 2:
                z = act(z)
        return z

    return velocity


def solved(case, velocity, x, **how):
    """log p(x): from the data at t = 1 to the latents at t = 0."""
    def rates(t, state):
        with torch.enable_grad():
            z = state[0].clone().requires_grad_()
            f = velocity(t, z)
            trace = sum(torch.autograd.grad(f[:, i].sum(), z, retain_graph=True)[0][:, i] for i in range(z.shape[1]))
        return f.detach(), trace.detach()

    z, change = odeint(rates, (x, torch.zeros(len(x))), torch.tensor([1.0, 0.0]), **how)
    z, change = z[-1], change[-1]
    out[f"{case}/x"] = x
    # The integral runs downwards: d log|det dz/dx| is the trace along that way.
    out[f"{case}/logProbability"] = -0.5 * (z ** 2).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi) + change


def data(n, d):
    return single(1.5 * torch.randn(n, d))


solved("midpoint", network("midpoint", [2, 5, 6, 4, 2], True, torch.tanh, 0.8), data(20, 2),
       method="midpoint", options=dict(step_size=0.1))
exact = dict(method="dopri5", rtol=1e-9, atol=1e-9)
solved("squash", network("squash", [2, 5, 6, 4, 2], True, torch.tanh, 0.9), data(20, 2), **exact)
solved("concat", network("concat", [3, 6, 5, 3], False, F.softplus, 0.7), data(20, 3), **exact)
solved("shallow", network("shallow", [4, 7, 4], True, torch.tanh, 0.9), data(20, 4), **exact)

import zuko

flow = zuko.flows.CNF(features=3, context=2, hidden_features=(8, 8), atol=1e-10, rtol=1e-10)
for parameter in flow.parameters():
    parameter.data = single(parameter.data * 1.5)
linears = [layer for layer in flow.transform.ode if hasattr(layer, "weight")]
for i, layer in enumerate(linears):
    out[f"zuko/layers.{i}.weight"], out[f"zuko/layers.{i}.bias"] = layer.weight, layer.bias
x, c = data(20, 3), single(torch.randn(20, 2))
out["zuko/x"], out["zuko/features"] = x, c
out["zuko/logProbability"] = flow(c).log_prob(x)

save(sys.argv[1], {name: value.detach() for name, value in sorted(out.items())})
