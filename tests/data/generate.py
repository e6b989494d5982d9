#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the golden files of this folder with PyTorch: one safetensors file for each case.

Inputs are drawn in float32. PyTorch computes in float64 from them, on one thread, and every expected result is rounded to float32
once, at the end: an expected number is within half a unit in its last place of PyTorch's. The versions that made a file stand in
its __metadata__, with the case's sizes and settings as strings.

    /usr/bin/python3 tests/data/generate.py        (Debian 12: python3-torch 1.13.1)

A second run with the same versions writes the same bytes.
"""
import json
import os
import platform
import struct

import numpy
import torch

FOLDER = os.path.dirname(os.path.abspath(__file__))
VERSIONS = {
    "generator": "tests/data/generate.py",
    "torch": torch.__version__,
    "numpy": numpy.__version__,
    "python": platform.python_version(),
}


def save(name, tensors, **metadata):
    """The format: length of the header (64 bits, little-endian), header (JSON, padded with spaces to 8 bytes), data."""
    header = {"__metadata__": {**VERSIONS, **{key: str(value) for key, value in metadata.items()}}}
    data = b""
    for key, tensor in tensors.items():
        raw = tensor.detach().to(torch.float32).contiguous().numpy().astype("<f4").tobytes()
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(FOLDER, name + ".safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class Draw:
    """Numbers in [-scale, scale) that are exact in float32, given out as float64."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, scale=1.0):
        unit = torch.rand(*shape, generator=self.generator, dtype=torch.float32)
        return ((unit * 2 - 1) * scale).to(torch.float64)


def leaf(tensor):
    return tensor.clone().requires_grad_(True)


def lstm(T, N, I, H, L):
    draw = Draw(1000 + T * 31 + N * 7 + I * 5 + H * 3 + L)
    net = torch.nn.LSTM(I, H, L).to(torch.float64)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(draw(*parameter.shape, scale=H**-0.5 if H > 1 else 0.9))
    x, h0, c0 = leaf(draw(T, N, I)), leaf(draw(L, N, H)), leaf(draw(L, N, H))
    gy, ghn, gcn = draw(T, N, H), draw(L, N, H), draw(L, N, H)
    y, (hn, cn) = net(x, (h0, c0))
    torch.autograd.backward([y, hn, cn], [gy, ghn, gcn])
    tensors = {"x": x, "h0": h0, "c0": c0, "gy": gy, "ghn": ghn, "gcn": gcn}
    tensors.update(net.named_parameters())
    tensors.update({"y": y, "hn": hn, "cn": cn, "dx": x.grad, "dh0": h0.grad, "dc0": c0.grad})
    tensors.update({"d" + name: parameter.grad for name, parameter in net.named_parameters()})
    save(f"lstm_t{T}_n{N}_i{I}_h{H}_l{L}", tensors, T=T, N=N, I=I, H=H, L=L)


def dense(rows, I, O, activation):
    draw = Draw(2000 + rows * 13 + I * 5 + O)
    weight, bias, x = leaf(draw(O, I)), leaf(draw(O)), leaf(draw(rows, I))
    gy = draw(rows, O)
    y = torch.nn.functional.linear(x, weight, bias)
    if activation != "none":
        y = getattr(torch, activation)(y)
    y.backward(gy)
    save(
        f"dense_{activation}",
        {"x": x, "weight": weight, "bias": bias, "gy": gy, "y": y, "dx": x.grad, "dweight": weight.grad, "dbias": bias.grad},
        rows=rows, I=I, O=O, activation=activation,
    )  # fmt: skip


def loss(name, function, count, delta=1.0):
    draw = Draw(3000 + count)
    predicted, target = leaf(draw(count, scale=2)), draw(count, scale=2)
    target[3] = predicted[3].item()  # no difference: gradient 0
    value = function(predicted, target)
    value.backward()
    save(
        f"loss_{name}",
        {"predicted": predicted, "target": target, "loss": value.reshape(1), "gradient": predicted.grad},
        loss=name, count=count, delta=delta,
    )  # fmt: skip


def optimizer(case, kind, clip_norm=0.0, clip_value=0.0, steps=6, count=52, **settings):
    """settings: the keywords of torch.optim; `beta1` and `beta2` in place of betas."""
    draw = Draw(4000)
    p = torch.nn.Parameter(draw(count))
    keywords = dict(settings)
    if "beta1" in keywords:
        keywords["betas"] = (keywords.pop("beta1"), keywords.pop("beta2"))
    made = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[kind]
    opt = made([p], **keywords)
    start = p.detach().clone()
    grads, params = [], []
    for step in range(steps):
        p.grad = draw(count, scale=2.0 ** (2 - step))  # large first, small later: both sides of a clip
        grads.append(p.grad.clone())
        if clip_norm:
            torch.nn.utils.clip_grad_norm_([p], clip_norm)
        if clip_value:
            torch.nn.utils.clip_grad_value_([p], clip_value)
        opt.step()
        params.append(p.detach().clone())
    save(
        f"optimizer_{case}",
        {"start": start, "grads": torch.stack(grads), "params": torch.stack(params)},
        kind=kind, steps=steps, count=count, clip_norm=clip_norm, clip_value=clip_value, **settings,
    )  # fmt: skip


def main():
    torch.set_num_threads(1)
    for sizes in (
        (1, 1, 1, 50, 1),
        (5, 3, 2, 7, 2),
        (3, 2, 5, 1, 3),
        (7, 1, 3, 17, 1),
        (2, 4, 1, 65, 1),
        (4, 2, 3, 33, 2),
        (64, 2, 2, 5, 1),
        (2, 3, 67, 3, 1),
    ):
        lstm(*sizes)
    for activation in ("none", "tanh", "sigmoid", "relu"):
        dense(5, 17, 33, activation)
    loss("mse", torch.nn.MSELoss(), 131)
    loss("mae", torch.nn.L1Loss(), 131)
    loss("huber", torch.nn.HuberLoss(delta=0.75), 131, delta=0.75)
    optimizer("sgd", "sgd", lr=0.05)
    optimizer("sgd_momentum_decay", "sgd", lr=0.05, momentum=0.9, weight_decay=0.1)
    optimizer("sgd_clip_value", "sgd", lr=0.05, momentum=0.5, clip_value=0.5)
    optimizer("rmsprop", "rmsprop", lr=0.01)
    optimizer("rmsprop_momentum_decay", "rmsprop", lr=0.01, alpha=0.95, eps=1e-6, momentum=0.9, weight_decay=0.1)
    optimizer("adam", "adam", lr=0.001)
    optimizer("adam_decay_clip_norm", "adam", lr=0.02, beta1=0.8, beta2=0.99, weight_decay=0.1, clip_norm=1.0)
    optimizer("adamw", "adamw", lr=0.02)
    optimizer("adamw_both_clips", "adamw", lr=0.02, weight_decay=0.2, eps=1e-7, clip_norm=2.0, clip_value=0.25)


if __name__ == "__main__":
    main()
