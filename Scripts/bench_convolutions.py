"""Times of PyTorch's convolutions (oneDNN on a processor), for the cases of `kernel-bench convolutions`.

    python Scripts/bench_convolutions.py [threads]

Both memory formats; each gradient alone. Every dense case: PyTorch has no mask.
"""
import sys
import time

import torch

CASES = [
    # name, batch, in, out, extents, kernel, padding, stride, dilation, groups
    ("dense 3x3 64-64", 64, 64, 64, (28, 28), (3, 3), (1, 1), 1, 1, 1),
    ("1x1 128-64", 32, 128, 64, (28, 28), (1, 1), (0, 0), 1, 1, 1),
    ("7x7 1-128", 32, 1, 128, (28, 28), (7, 7), (3, 3), 1, 1, 1),
    ("2x3 128-256", 16, 128, 256, (29, 28), (2, 3), (0, 1), 1, 1, 1),
    ("glow 3x3 12-128", 16, 12, 128, (16, 16), (3, 3), (1, 1), 1, 1, 1),
    ("glow 1x1 128-128", 16, 128, 128, (16, 16), (1, 1), (0, 0), 1, 1, 1),
    ("stride 2 3x3 64-64", 32, 64, 64, (32, 32), (3, 3), (1, 1), 2, 1, 1),
    ("depthwise 3x3 128", 16, 128, 128, (28, 28), (3, 3), (1, 1), 1, 1, 128),
    ("batch 1 3x3 64-64", 1, 64, 64, (28, 28), (3, 3), (1, 1), 1, 1, 1),
    ("1d dilation 1 64-128", 1, 64, 128, (8001,), (2,), (0,), 1, 1, 1),
    ("1d dilation 32 64-128", 1, 64, 128, (8032,), (2,), (0,), 1, 32, 1),
    ("1d dilation 512 64-128", 1, 64, 128, (8512,), (2,), (0,), 1, 512, 1),
]


def best(body, seconds=0.3):
    body()
    times = []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        before = time.perf_counter()
        body()
        times.append(time.perf_counter() - before)
    return min(times) * 1e3


def main():
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    for name, batch, inputs, outputs, extents, kernel, padding, stride, dilation, groups in CASES:
        axes = len(extents)
        for layout in ("channels first", "channels last") if axes == 2 else ("channels first",):
            memory = torch.channels_last if layout == "channels last" else torch.contiguous_format
            x = torch.randn(batch, inputs, *extents).to(memory_format=memory)
            w = torch.randn(outputs, inputs // groups, *kernel).to(memory_format=memory)
            stride_, dilation_ = [stride] * axes, [dilation] * axes
            operation = torch.nn.functional.conv2d if axes == 2 else torch.nn.functional.conv1d
            run = lambda: operation(x, w, None, stride_, list(padding), dilation_, groups)
            dy = torch.randn_like(run())

            def backward(mask):
                torch.ops.aten.convolution_backward(
                    dy, x, w, None, stride_, list(padding), dilation_, False, [0] * axes, groups, mask)

            with torch.no_grad():
                times = [best(run), best(lambda: backward([True, False, False])), best(lambda: backward([False, True, False]))]
            work = dy.numel() * (inputs // groups) * torch.tensor(kernel).prod().item()
            parts = ", ".join(
                f"{role} {t:.3f} ms ({2 * work / t / 1e6:.0f} GFLOP/s)"
                for role, t in zip(("forward", "inputGradient", "weightGradient"), times))
            print(f"{name}, batch {batch}, {layout}: {parts}", flush=True)


if __name__ == "__main__":
    main()
