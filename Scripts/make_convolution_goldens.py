"""Writes Tests/BackendTests/Goldens/convolutions.safetensors: PyTorch's convolutions in float32, forward and both gradients.

    python Scripts/make_convolution_goldens.py

Cases are named by what they are: KIND-AXES-STRIDE-PADDING-DILATION-GROUPS-INDEX, lists joined by `x`. For each there are
x, weight, dy and the results y, dx and dweight, computed in double precision and rounded.
"""
import pathlib
import random

import torch

from goldens import save


def main():
    random.seed(3)
    torch.manual_seed(3)
    tensors = {}
    forward = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
    transposed = {
        1: torch.nn.functional.conv_transpose1d, 2: torch.nn.functional.conv_transpose2d,
        3: torch.nn.functional.conv_transpose3d}
    index = 0
    while index < 60:
        axes = random.choice([1, 2, 2, 3])
        groups = random.choice([1, 1, 2, 3])
        inputs, outputs = groups * random.randint(1, 6), groups * random.randint(1, 6)
        kernel = [random.randint(1, 3) for _ in range(axes)]
        stride = [random.choice([1, 1, 2, 3]) for _ in range(axes)]
        dilation = [random.choice([1, 1, 2]) for _ in range(axes)]
        padding = [random.randint(0, 2) for _ in range(axes)]
        extents = [random.randint(1, [40, 11, 5][axes - 1]) for _ in range(axes)]
        is_transposed = random.random() < 0.3
        x = torch.randn(random.randint(1, 3), inputs, *extents)
        shape = (inputs, outputs // groups) if is_transposed else (outputs, inputs // groups)
        weight = torch.randn(*shape, *kernel)
        a, b = x.double().requires_grad_(), weight.double().requires_grad_()
        try:
            if is_transposed:
                y = transposed[axes](a, b, None, stride, padding, [s - 1 for s in stride], groups, dilation)
            else:
                y = forward[axes](a, b, None, stride, padding, dilation, groups)
        except RuntimeError:
            continue
        if y.numel() == 0:
            continue
        dy = torch.randn(y.shape)
        y.backward(dy.double())
        joined = ["x".join(map(str, part)) for part in (stride, padding, dilation)]
        name = "-".join(["transposed" if is_transposed else "forward", str(axes), *joined, str(groups), str(index)])
        values = {"x": x, "weight": weight, "dy": dy, "y": y, "dx": a.grad, "dweight": b.grad}
        tensors.update({f"{name}/{key}": value.detach().float() for key, value in values.items()})
        index += 1
    path = pathlib.Path(__file__).parent.parent / "Tests/BackendTests/Goldens/convolutions.safetensors"
    save(path, tensors)


if __name__ == "__main__":
    main()
