"""Writes Tests/ModelsTests/Goldens/recurrent.safetensors: PyTorch's RNN, LSTM and GRU in double precision, forward and all gradients.

    python Scripts/make_recurrent_goldens.py

For each of rnn, lstm and gru, of two layers, in one direction and in both: the weights, an input `[steps, batch, inputs]`, the state it
starts from, the outputs, the last states, and the gradients of sum(outputs * dy) by x and by every weight. `packed` is an LSTM over
sequences of unequal lengths.
"""
import pathlib

import torch

from goldens import save

STEPS, BATCH, INPUTS, UNITS = 6, 3, 5, 4


def main():
    torch.manual_seed(5)
    tensors = {}
    for kind, make in {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.items():
        for directions in (1, 2):
            name = f"{kind}{directions}"
            network = make(INPUTS, UNITS, num_layers=2, bidirectional=directions == 2).double()
            x = torch.randn(STEPS, BATCH, INPUTS).double().requires_grad_()
            states = [torch.randn(2 * directions, BATCH, UNITS).double() for _ in range(2 if kind == "lstm" else 1)]
            y, last = network(x, tuple(states) if kind == "lstm" else states[0])
            dy = torch.randn(y.shape).double()
            (y * dy).sum().backward()
            values = {"x": x, "y": y, "dy": dy, "dx": x.grad}
            values |= {f"state{i}": state for i, state in enumerate(states)}
            values |= {f"last{i}": state for i, state in enumerate(last if kind == "lstm" else [last])}
            for key, weight in network.named_parameters():
                values[key] = weight
                values["d" + key] = weight.grad
            tensors |= {f"{name}/{key}": value for key, value in values.items()}
    network = torch.nn.LSTM(INPUTS, UNITS).double()
    x = torch.randn(STEPS, BATCH, INPUTS).double().requires_grad_()
    lengths = torch.tensor([6, 2, 4])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, (h, c) = network(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=STEPS)
    ((h * h).sum() + (y * y).sum()).backward()
    values = {"x": x, "y": y, "last0": h, "last1": c, "dx": x.grad, "lengths": lengths.double()}
    for key, weight in network.named_parameters():
        values[key] = weight
        values["d" + key] = weight.grad
    tensors |= {f"packed/{key}": value for key, value in values.items()}
    path = pathlib.Path(__file__).parent.parent / "Tests/ModelsTests/Goldens/recurrent.safetensors"
    save(path, tensors)


if __name__ == "__main__":
    main()
