#!/usr/bin/env python3
"""Golden cases of the flows from zuko, nflows and normflows, in double precision.

    python3 -m venv .venv && .venv/bin/pip install torch numpy zuko nflows normflows
    .venv/bin/python Scripts/make-flow-goldens.py Tests/BijectorsTests/Goldens/flows.safetensors

Every case holds its weights under the names that our modules give them (`case/layers.0...`), inputs `case/x`, and what the
library computes: `case/z` and `case/logDeterminant`, or `case/logProbability`. Only the layout differs: the libraries interleave
a variable's parameters, ours lie block after block, and a coupling's network spans all variables with dead weights zero.
"""
import json, math, struct, sys
import numpy as np
import torch
from torch import nn

torch.manual_seed(7)
torch.set_default_dtype(torch.float64)
out = {}


def put(name, value):
    out[name] = np.ascontiguousarray(value.detach().numpy() if torch.is_tensor(value) else value, dtype=np.float64)


def single(values):
    """Numbers that float32 holds exactly, so that a comparison in float32 measures the arithmetic alone."""
    return values.float().double()


def stir(module, scale=1.0):
    for p in module.parameters():
        p.data = single(p.data * scale + 0.3 * torch.randn_like(p))


def linears(module):
    return [m for m in module.modules() if isinstance(m, nn.Linear)]


def blocks(rows, variables, parameters):
    """Rows variable by variable to rows parameter by parameter."""
    return rows.reshape(variables, parameters, *rows.shape[1:]).swapaxes(0, 1).reshape(rows.shape)


def weight(layer):
    w = layer.weight.detach().clone()
    return w * layer.mask if hasattr(layer, "mask") else w


def data(n=40, d=5, scale=1.5):
    return single(torch.randn(n, d) * scale)


def flow(case, model, x):
    put(f"{case}/x", x)
    put(f"{case}/logProbability", model().log_prob(x))


def zuko_maf():
    import zuko
    d = 5
    model = zuko.flows.MAF(d, transforms=3, hidden_features=[9, 8])
    stir(model)
    for i, t in enumerate(model.transform.transforms):
        layers = linears(t.hyper)
        put(f"maf/order.{i}", t.order.double())
        for j, layer in enumerate(layers):
            w, b = weight(layer), layer.bias.detach()
            put(f"maf/mask.{i}.{j}", layer.mask.double() if j < len(layers) - 1 else blocks(layer.mask.double(), d, 2))
            if j == len(layers) - 1:
                w, b = blocks(w, d, 2), blocks(b, d, 2)
            put(f"maf/layers.{i}.conditioner.layers.{j}.weight", w)
            put(f"maf/layers.{i}.conditioner.layers.{j}.bias", b)
    flow("maf", model, data())


def spread(w, b, j, count, kept, d, parameters):
    """A coupling's network on its kept variables as one on all of them."""
    rest = ~kept
    if j == 0:
        full = torch.zeros(w.shape[0], d)
        full[:, kept] = w
        w = full
    if j == count - 1:
        rows = torch.cat([torch.nonzero(rest)[:, 0] + k * d for k in range(parameters)])
        full, bias = torch.zeros(parameters * d, w.shape[1]), torch.zeros(parameters * d)
        full[rows], bias[rows] = w, b
        w, b = full, bias
    return w, b


def zuko_realnvp():
    import zuko
    d = 5
    model = zuko.flows.RealNVP(d, transforms=4, randmask=False, hidden_features=[8, 7])
    stir(model)
    for i, t in enumerate(model.transform.transforms):
        put(f"realnvp/kept.{i}", t.mask.double())
        layers = linears(t.hyper)
        for j, layer in enumerate(layers):
            w, b = weight(layer), layer.bias.detach()
            if j == len(layers) - 1:
                n = int((~t.mask).sum())
                w, b = blocks(w, n, 2), blocks(b, n, 2)
            w, b = spread(w, b, j, len(layers), t.mask, d, 2)
            put(f"realnvp/layers.{i}.conditioner.layers.{j}.weight", w)
            put(f"realnvp/layers.{i}.conditioner.layers.{j}.bias", b)
    flow("realnvp", model, data())


class Net(nn.Module):
    def __init__(self, i, o, h=7):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, o))

    def forward(self, x, context=None):
        return self.net(x)


def nflows_nice():
    from nflows.transforms import AdditiveCouplingTransform, CompositeTransform
    d, parts = 5, []
    for i in range(4):
        transformed = torch.arange(d) % 2 != i % 2
        t = AdditiveCouplingTransform(transformed.double(), lambda i, o: Net(i, o))
        stir(t)
        for j, layer in enumerate(linears(t.transform_net)):
            w, b = spread(weight(layer), layer.bias.detach(), j, 2, ~transformed, d, 1)
            put(f"nice/layers.{i}.conditioner.layers.{j}.weight", w)
            put(f"nice/layers.{i}.conditioner.layers.{j}.bias", b)
        parts.append(t)
    scale = single(torch.randn(d) * 0.4)
    put("nice/layers.4.logScale", scale)
    put("nice/layers.4.shift", torch.zeros(d))
    x = data()
    z, _ = CompositeTransform(parts)(x)
    z = z * scale.exp()
    put("nice/x", x)
    put("nice/logProbability", scale.sum() + (-nn.functional.softplus(z) - nn.functional.softplus(-z)).sum(1))


def inverse_softplus(y):
    return y + torch.log(-torch.expm1(-y))


def normflows_classics():
    import normflows as nf
    d, x = 5, data()
    planar = nf.flows.Planar((d,))
    stir(planar)
    put("planar/direction.free", planar.u[0])
    put("planar/normal.free", planar.w[0])
    put("planar/offset.free", planar.b)
    radial = nf.flows.Radial((d,))
    stir(radial)
    put("radial/centre.free", radial.z_0[0])
    put("radial/rawAlpha.free", inverse_softplus(radial.alpha.abs()))
    put("radial/rawBeta.free", radial.beta)
    for case, module in [("planar", planar), ("radial", radial)]:
        z, log = module(x)
        put(f"{case}/x", x), put(f"{case}/z", z), put(f"{case}/logDeterminant", log)


def nflows_householder():
    from nflows.transforms.orthogonal import HouseholderSequence
    t = HouseholderSequence(5, 3)
    stir(t)
    x = data()
    z, log = t(x)
    for i, v in enumerate(t.q_vectors):
        put(f"householder/vectors.{i}.free", v)
    put("householder/x", x), put("householder/z", z), put("householder/logDeterminant", log)


def nflows_spline():
    from nflows.transforms.splines import unconstrained_rational_quadratic_spline as spline
    n, d, k, bound = 40, 5, 6, 3.0
    x = data(n, d, 2.5)
    w, h, s = single(torch.randn(n, d, k)), single(torch.randn(n, d, k)), single(torch.randn(n, d, k - 1))
    z, log = spline(x, w, h, s, tails="linear", tail_bound=bound)
    put("spline/x", x), put("spline/z", z), put("spline/logDeterminant", log.sum(1))
    put("spline/parameters", torch.cat([w, h, s], 2).permute(0, 2, 1).reshape(n, -1))


def glow_step():
    """normflows' ActNorm, its invertible 1x1 convolution, and its coupling with sigmoid scales."""
    import normflows as nf
    n, c, size, hidden = 6, 4, 4, 6
    x = single(torch.randn(n, c, size, size))
    act = nf.flows.ActNorm((c, 1, 1))
    act.data_dep_init_done = torch.tensor(1.0)
    stir(act)
    mix = nf.flows.Invertible1x1Conv(c, use_lu=False)
    stir(mix)
    net = nn.Sequential(nn.Conv2d(c // 2, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, hidden, 1), nn.ReLU(),
                        nn.Conv2d(hidden, c, 3, padding=1))
    stir(net)
    couple = nf.flows.AffineCoupling(net, scale=True, scale_map="sigmoid")
    z, total = act.forward(x)
    y, log = mix.inverse(z)
    total = total + log
    kept, rest = y.chunk(2, 1)
    # As Glow's code writes it: (rest + shift) sigmoid(raw + 2).
    p = net(kept)
    shift, raw = p[:, 0::2], p[:, 1::2]
    (kept2, moved), log = couple.inverse([kept, rest])
    total = total + log
    put("glow/layers.0.logScale", act.s.reshape(-1))
    put("glow/layers.0.bias", (act.t * torch.exp(-act.s)).reshape(-1))
    put("glow/layers.1.weight", mix.W)
    for j, layer in enumerate([net[0], net[2], net[4]]):
        w, b = layer.weight.detach(), layer.bias.detach()
        if j == 2:
            w, b = torch.cat([-w[0::2], w[1::2]]), torch.cat([-b[0::2], b[1::2]])
        put(f"glow/layers.2.conditioner.layers.{j}.weight", w)
        put(f"glow/layers.2.conditioner.layers.{j}.bias", b)
    put("glow/x", x), put("glow/z", torch.cat([kept2, moved], 1)), put("glow/logDeterminant", total)


for make in [zuko_maf, zuko_realnvp, nflows_nice, normflows_classics, nflows_householder, nflows_spline, glow_step]:
    make()

header, offset = {}, 0
for name, array in out.items():
    header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
    offset += array.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[1], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    for array in out.values():
        f.write(array.tobytes())
print(f"{len(out)} arrays, {offset} bytes")
