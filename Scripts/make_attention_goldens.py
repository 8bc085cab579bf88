"""Writes Tests/BackendTests/Goldens/attention.safetensors: PyTorch's scaled dot product attention in double precision, rounded.

    python Scripts/make_attention_goldens.py

Cases are named by what they are: PATTERN-ARGUMENT-PADDED-INDEX. For each there are q, k, v [batch, heads, positions, depth], the gradient
dy of the result, the results y, dq, dk and dv, and where keys are padded `keys` [batch, positions], 1 for those that count.
"""
import pathlib
import random

import torch

from goldens import save

# Whether a query reads a key, given the pattern's argument.
PATTERNS = {
    "all": lambda i, j, n: True,
    "causal": lambda i, j, n: j <= i,
    "prefix": lambda i, j, n: j <= i or j < n,
    "window": lambda i, j, n: j <= i and i - j < n,
    "strided": lambda i, j, n: j <= i and (i - j < n or (i - j) % n == 0),
    "row": lambda i, j, n: j <= i and i // n == j // n,
    "column": lambda i, j, n: j <= i and i % n == j % n,
}


def main():
    random.seed(4)
    torch.manual_seed(4)
    tensors = {}
    for index in range(28):
        pattern = list(PATTERNS)[index % len(PATTERNS)]
        positions = random.randint(2, 30) if index % 3 else random.randint(60, 140)
        argument = random.randint(1, max(1, positions // 2))
        heads, depth = random.randint(1, 3), random.choice([1, 3, 8, 16, 20])
        width = depth if index % 2 else random.choice([2, 8, 17])
        batch = random.randint(1, 2)
        q, k = (torch.randn(batch, heads, positions, depth, dtype=torch.double) for _ in range(2))
        v, dy = (torch.randn(batch, heads, positions, width, dtype=torch.double) for _ in range(2))
        reads = torch.tensor([[PATTERNS[pattern](i, j, argument) for j in range(positions)] for i in range(positions)])
        is_padded = index >= 14
        name = f"{pattern}-{argument}-{int(is_padded)}-{index}"
        mask = reads.expand(batch, heads, positions, positions)
        if is_padded:
            # Every key counts where some query would be left without one, of which PyTorch makes NaN.
            keys = torch.rand(batch, positions) < 0.7
            keys[:, 0] = True
            keys |= ~(mask & keys[:, None, None, :]).any(-1).all(1).all(-1, keepdim=True)
            tensors[f"{name}/keys"] = keys.float()
            mask = mask & keys[:, None, None, :]
        # What is rounded to float32 is what is attended to.
        q, k, v, dy = (t.float().double().requires_grad_() for t in (q, k, v, dy))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        gradients = torch.autograd.grad((y * dy).sum(), [q, k, v])
        for key, tensor in zip(["q", "k", "v", "dy", "y", "dq", "dk", "dv"], [q, k, v, dy, y, *gradients]):
            tensors[f"{name}/{key}"] = tensor.detach().float()
    save(pathlib.Path(__file__).parent.parent / "Tests/BackendTests/Goldens/attention.safetensors", tensors)


if __name__ == "__main__":
    main()
