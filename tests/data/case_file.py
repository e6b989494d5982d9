# SPDX-License-Identifier: MIT
"""What generate_torch.py and generate_onnx.py share: case files (docs/case-files.md), their inputs, and the equations of
docs/operator.md in plain NumPy, forward, in float64. Nothing is written before the equations agree with what made the numbers.
"""
import json
import os
import platform
import struct

import numpy

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases")
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
DEFAULTS = {
    "layers": 1, "direction": "forward", "merge": "concat", "bias": "double", "proj_size": 0, "lengths": False, "init_state": False,
    "reset_after": True, "peephole": False, "input_forget": False, "cell_clip": 0, "preact_clip": 0, "skip_input": False,
    "last_only": False, "padding_value": 0, "batch_first": False,
}  # fmt: skip


def get(config, key):
    return config.get(key, DEFAULTS.get(key))


def directions(config):
    """Suffixes of the names."""
    return ["", "_reverse"] if get(config, "direction") == "bidirectional" else [""]


def width_of_h(config):
    return get(config, "proj_size") or config["H"]


def width_of_y(config):
    return width_of_h(config) * (1 if get(config, "merge") == "sum" else len(directions(config)))


def shapes(config):
    """Names and shapes of the parameters, in PyTorch's order."""
    H, P, rows = config["H"], width_of_h(config), GATES[config["cell"]] * config["H"]
    result = {}
    for layer in range(get(config, "layers")):
        for suffix in directions(config):
            end = f"_l{layer}{suffix}"
            if layer or not get(config, "skip_input"):
                result["weight_ih" + end] = (rows, width_of_y(config) if layer else config["I"])
            result["weight_hh" + end] = (rows, P)
            if get(config, "bias") != "none":
                result["bias_ih" + end] = (rows,)
            if get(config, "bias") == "double":
                result["bias_hh" + end] = (rows,)
            if get(config, "proj_size"):
                result["weight_hr" + end] = (P, H)
            if get(config, "peephole"):
                result["weight_ch" + end] = (3, H)
    return result


class Draw:
    """Numbers in [-scale, scale) that are exact in float32, given out as float64. NumPy's policy freezes this stream."""

    def __init__(self, seed):
        self.state = numpy.random.RandomState(seed)

    def __call__(self, *shape, scale=1.0):
        unit = self.state.random_sample(shape).astype(numpy.float32)
        return ((unit * 2 - 1) * numpy.float32(scale)).astype(numpy.float64)


def inputs(config, seed, lengths=None, scale=1.0, gradients=()):
    """x, states, lengths, weights and upstream gradients. Everything is away from zero, and past the end of a row too: neither x
    nor gy there may have an effect. Sizes are [T][B][...] whatever batch_first says; save() transposes."""
    draw = Draw(seed)
    T, B, H, P, D = config["T"], config["B"], config["H"], width_of_h(config), len(directions(config))
    states = get(config, "layers") * D
    tensors = {"x": draw(T, B, config["I"], scale=scale)}
    if get(config, "init_state"):
        tensors["h0"] = draw(states, B, P)
        if config["cell"] == "lstm":
            tensors["c0"] = draw(states, B, H)
    if get(config, "lengths"):
        tensors["lengths"] = numpy.array(lengths, numpy.int32)
    for name, shape in shapes(config).items():
        bound = 0.9 if H == 1 else shape[-1] ** -0.5 if name.startswith("weight_hr") else 1.3 * H**-0.5
        tensors["w." + name] = draw(*shape, scale=bound)
    rows = (B,) if get(config, "last_only") else (T, B)
    upstream = {"gy": (*rows, width_of_y(config)), "ghn": (states, B, P), "gcn": (states, B, H)}
    for name in gradients:
        tensors[name] = draw(*upstream[name])
    return tensors


# ---- The equations ----


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


# name: function, places where it or its slope jumps, default alpha and beta (None: both must be given)
ACTIVATIONS = {
    "Sigmoid": (lambda x, a, b: sigmoid(x), lambda a, b: (), (0, 0)),
    "Tanh": (lambda x, a, b: numpy.tanh(x), lambda a, b: (), (0, 0)),
    "Relu": (lambda x, a, b: numpy.maximum(x, 0), lambda a, b: (0,), (0, 0)),
    "HardSigmoid": (lambda x, a, b: numpy.clip(a * x + b, 0, 1), lambda a, b: (-b / a, (1 - b) / a), (0.2, 0.5)),
    "Affine": (lambda x, a, b: a * x + b, lambda a, b: (), None),
    "LeakyRelu": (lambda x, a, b: numpy.where(x >= 0, x, a * x), lambda a, b: (0,), (0.01, 0)),
    "ThresholdedRelu": (lambda x, a, b: numpy.where(x > a, x, 0), lambda a, b: (a,), (1, 0)),
    "ScaledTanh": (lambda x, a, b: a * numpy.tanh(b * x), lambda a, b: (), None),
    "Elu": (lambda x, a, b: numpy.where(x >= 0, x, a * numpy.expm1(x)), lambda a, b: (0,), (1, 0)),
    "Softsign": (lambda x, a, b: x / (1 + numpy.abs(x)), lambda a, b: (), (0, 0)),
    "Softplus": (lambda x, a, b: numpy.log1p(numpy.exp(x)), lambda a, b: (), (0, 0)),
}
USUAL = {"lstm": ("Sigmoid", "Tanh", "Tanh"), "gru": ("Sigmoid", "Tanh"), "rnn_tanh": ("Tanh",), "rnn_relu": ("Relu",)}


class Gate:
    """Activations with the clip of their arguments; notes how near the arguments come to a kink."""

    def __init__(self, config):
        self.clip = get(config, "preact_clip")
        self.nearest = numpy.inf
        self.reached = 0  # arguments outside of the clip: a case that clips nothing shows nothing
        self.passed = 0  # arguments outside of it that are not clipped, of h(c): likewise

    def near(self, x, places):
        for place in places:
            self.nearest = min(self.nearest, float(numpy.min(numpy.abs(x - place), initial=numpy.inf)))

    def apply(self, activation, x, clip=True):
        function, kinks, defaults = ACTIVATIONS[activation["name"]]
        a, b = activation.get("alpha"), activation.get("beta")
        a, b = (defaults or (None, None))[0] if a is None else a, (defaults or (None, None))[1] if b is None else b
        if clip and self.clip:
            self.near(x, (-self.clip, self.clip))
            self.reached += int(numpy.sum(numpy.abs(x) > self.clip))
            x = numpy.clip(x, -self.clip, self.clip)
        elif self.clip:
            self.passed += int(numpy.sum(numpy.abs(x) > self.clip))
        self.near(x, kinks(a, b))
        return function(x, a, b)


def scan(config, tensors, x, layer, d, gate):
    """One layer in one direction: y [T][B][P], the final h, the final c."""
    cell, H, T, B = config["cell"], config["H"], config["T"], config["B"]
    end = f"_l{layer}{directions(config)[d]}"
    w = {name[2 : -len(end)]: value for name, value in tensors.items() if name.startswith("w.") and name.endswith(end)}
    rows = GATES[cell] * H
    b_ih, b_hh = w.get("bias_ih", numpy.zeros(rows)), w.get("bias_hh", numpy.zeros(rows))
    given = config.get("activations")
    f, g, a = (list(given[d]) if given else [{"name": name} for name in USUAL[cell]]) + [None] * (3 - len(USUAL[cell]))
    state = layer * len(directions(config)) + d
    h = tensors["h0"][state] if "h0" in tensors else numpy.zeros((B, width_of_h(config)))
    c = tensors["c0"][state] if "c0" in tensors else numpy.zeros((B, H))
    lengths = tensors.get("lengths", numpy.full(B, T))
    back = get(config, "direction") == "reverse" or d == 1
    y = numpy.full((T, B, width_of_h(config)), float(get(config, "padding_value")))
    for t in range(T - 1, -1, -1) if back else range(T):
        live = (t < lengths)[:, None]
        gx = (x[t] @ w["weight_ih"].T if "weight_ih" in w else numpy.tile(x[t], GATES[cell])) + b_ih
        rec = [(h @ part.T, b) for part, b in zip(numpy.split(w["weight_hh"], GATES[cell]), numpy.split(b_hh, GATES[cell]))]
        gx = numpy.split(gx, GATES[cell], axis=1)
        c_next = c
        if cell == "lstm":
            p = w.get("weight_ch", numpy.zeros((3, H)))
            pre = [gx[k] + rec[k][0] + rec[k][1] for k in range(4)]
            i = gate.apply(f, pre[0] + p[0] * c)
            forget = 1 - i if get(config, "input_forget") else gate.apply(f, pre[1] + p[1] * c)
            c_next = forget * c + i * gate.apply(g, pre[2])
            o = gate.apply(f, pre[3] + p[2] * c_next)
            h_next = o * gate.apply(a, c_next, clip=False)
            if "weight_hr" in w:
                h_next = h_next @ w["weight_hr"].T
        elif cell == "gru":
            r = gate.apply(f, gx[0] + rec[0][0] + rec[0][1])
            z = gate.apply(f, gx[1] + rec[1][0] + rec[1][1])
            if get(config, "reset_after"):
                n = gate.apply(g, gx[2] + r * (rec[2][0] + rec[2][1]))
            else:
                n = gate.apply(g, gx[2] + (r * h) @ w["weight_hh"][2 * H :].T + rec[2][1])
            h_next = (1 - z) * n + z * h
        else:
            h_next = gate.apply(f, gx[0] + rec[0][0] + rec[0][1])
        h, c = numpy.where(live, h_next, h), numpy.where(live, c_next, c)
        y[t] = numpy.where(live, h, y[t])
    return y, h, c


def equations(config, tensors):
    """y, hn, cn, and the Gate that saw everything."""
    gate = Gate(config)
    below, finals = tensors["x"], []
    D = len(directions(config))
    for layer in range(get(config, "layers")):
        results = [scan(config, tensors, below, layer, d, gate) for d in range(D)]
        finals += [result[1:] for result in results]
        if get(config, "merge") == "sum" and D == 2:
            past = numpy.arange(config["T"])[:, None] >= tensors.get("lengths", numpy.full(config["B"], config["T"]))
            y = results[0][0] + results[1][0]
            y[past] = get(config, "padding_value")
            last = results[0][1] + results[1][1]
        else:
            y = numpy.concatenate([result[0] for result in results], axis=2)
            last = numpy.concatenate([result[1] for result in results], axis=1)
        below = y
    return {
        "y": last if get(config, "last_only") else y,
        "hn": numpy.stack([h for h, c in finals]),
        "cn": numpy.stack([c for h, c in finals]),
    }, gate


def error(got, want):
    """Relative to the largest number."""
    assert got.shape == want.shape, (got.shape, want.shape)
    return numpy.max(numpy.abs(got - want), initial=0) / (numpy.max(numpy.abs(want), initial=0) or 1)


def calm_inputs(config, seed, **more):
    """The first seed from `seed` on where every argument stays 1e-3 away from the kinks of activations and clips: there, rounding
    decides the result, and no two programs agree."""
    while True:
        tensors = inputs(config, seed, **more)
        results, gate = equations(config, tensors)
        if gate.nearest >= 1e-3:
            assert not gate.clip or gate.reached > 0 and (gate.passed > 0 or config["cell"] != "lstm")
            return tensors, results
        seed += 1000


# ---- Files ----


def save(config, versions, tensors, results):
    """safetensors: length of the header (64 bits, little-endian), header (JSON, padded with spaces to 8 bytes), data. Numbers are
    F32, lengths I32. batch_first transposes x, y, gy and dx (not the [B][W] of last_only)."""
    if config["cell"] != "lstm":
        results = {name: value for name, value in results.items() if name not in ("cn", "dc0")}
    everything = {**tensors, **{"out." + name: value for name, value in results.items()}}
    metadata = {"config": json.dumps(config), **versions, "numpy": numpy.__version__, "python": platform.python_version()}
    header, data = {"__metadata__": metadata}, b""
    for name, value in everything.items():
        if get(config, "batch_first") and name in ("x", "gy", "out.y", "out.dx") and value.ndim == 3:
            value = value.swapaxes(0, 1)
        assert numpy.all(numpy.isfinite(value)), name
        kind = ("I32", "<i4") if name == "lengths" else ("F32", "<f4")
        raw = numpy.ascontiguousarray(value).astype(kind[1]).tobytes()
        header[name] = {"dtype": kind[0], "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, config["name"] + ".safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
