#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the case files tests/data/cases/torch_*.safetensors with PyTorch: outputs and every gradient.

    /usr/bin/python3 tests/data/generate_torch.py        (Debian 12: python3-torch 1.13.1)

Inputs are drawn in float32. PyTorch computes in float64 from them, on one thread, and every result is rounded to float32 once. Before a
file is written, its outputs are compared with the equations of case_file.py. A second run with the same versions writes the
same bytes.

What PyTorch has is one call of its module. Five things are put together from such calls, with autograd through the whole:
    reverse      each row of x turned around within its length, and y turned back
    sum          modules of one layer, whose halves of y are added
    skip_input   weight_ih is the identity, once for each gate
    single bias  bias_hh is zero
    last_only    the last layer's final h, side by side or added
"""
import case_file
import numpy
import torch
from case_file import get
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

VERSIONS = {"generator": "tests/data/generate_torch.py", "torch": torch.__version__}
MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN}


def module(config, layers, first_layer, inputs, leaves):
    """A module of `layers` layers with the weights of the case's layers from first_layer on."""
    cell, H, P = config["cell"], config["H"], get(config, "proj_size")
    two = get(config, "direction") == "bidirectional"
    more = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {"proj_size": P} if P else {}
    net = MODULES[cell](inputs, H, layers, bias=get(config, "bias") != "none", bidirectional=two, **more).to(torch.float64)
    names = [name for name, parameter in net.named_parameters()]
    for name in names:
        kind, rest = name.split("_l")
        layer, *suffix = rest.split("_")
        mine = "_".join([f"{kind}_l{int(layer) + first_layer}", *suffix])
        if mine in leaves:
            value = leaves[mine]
        elif kind == "weight_ih":
            value = torch.eye(H, dtype=torch.float64).repeat(case_file.GATES[cell], 1)
        else:
            assert kind == "bias_hh"
            value = torch.zeros(case_file.GATES[cell] * H, dtype=torch.float64)
        setattr(net, name, torch.nn.Parameter(value.detach().clone()))
    return net, names


def turned(x, lengths):
    """Each row turned around within its length; what is past it stays."""
    T = x.shape[0]
    t = torch.arange(T)[:, None]
    index = torch.where(t < lengths, lengths - 1 - t, t)
    return x[index, torch.arange(x.shape[1])]


def run(config, tensors):
    cell, T, B, layers = config["cell"], config["T"], config["B"], get(config, "layers")
    D = len(case_file.directions(config))
    names = [name for name in tensors if name in ("x", "h0", "c0") or name.startswith("w.")]
    leaves = {name: torch.from_numpy(tensors[name]).requires_grad_(True) for name in names}
    weights = {name[2:]: value for name, value in leaves.items() if name.startswith("w.")}
    lengths = torch.from_numpy(tensors["lengths"].astype(numpy.int64)) if "lengths" in tensors else torch.full((B,), T)
    reverse, added = get(config, "direction") == "reverse", get(config, "merge") == "sum"

    def call(x, state, count, first, net_names):
        net, own = module(config, count, first, x.shape[2], weights)
        net_names.append((first, net, own))
        if not get(config, "lengths"):
            return net(x, state)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, state = net(packed, state)
        return pad_packed_sequence(y, total_length=T, padding_value=get(config, "padding_value"))[0], state

    def states(first, count):
        if "h0" not in leaves:
            return None
        part = slice(first * D, (first + count) * D)
        h0 = leaves["h0"][part].contiguous()
        return (h0, leaves["c0"][part].contiguous()) if cell == "lstm" else h0

    nets = []
    y, finals = leaves["x"], []
    if reverse:
        y = turned(y, lengths)
    for first in range(layers) if added else [0]:
        y, final = call(y, states(first, 1 if added else layers), 1 if added else layers, first, nets)
        finals.append(final if cell == "lstm" else (final, final))
        if added:
            forward, backward = y.chunk(2, dim=2)
            past = (torch.arange(T)[:, None] >= lengths)[:, :, None]
            y = torch.where(past, torch.tensor(float(get(config, "padding_value")), dtype=torch.float64), forward + backward)
    if reverse:
        y = turned(y, lengths)
    hn, cn = torch.cat([h for h, c in finals]), torch.cat([c for h, c in finals])
    if get(config, "last_only"):
        y = hn[-1] + hn[-2] if added else torch.cat(list(hn[-D:]), dim=1)

    outputs = {"y": y, "hn": hn, "cn": cn}
    pairs = [(outputs[name[1:]], torch.from_numpy(tensors[name])) for name in ("gy", "ghn", "gcn") if name in tensors]
    results = dict(outputs)
    if pairs:
        torch.autograd.backward([a for a, b in pairs], [b for a, b in pairs])
        results.update({"d" + name: leaves[name].grad for name in ("x", "h0", "c0") if name in leaves})
        for first, net, own in nets:
            for name in own:
                kind, rest = name.split("_l")
                layer, *suffix = rest.split("_")
                mine = "_".join([f"{kind}_l{int(layer) + first}", *suffix])
                if mine in weights:
                    results["d." + mine] = getattr(net, name).grad
    return {name: value.detach().numpy() for name, value in results.items()}


ALL = ("gy", "ghn", "gcn")  # gcn is left out where there is no c


def case(name, cell, T, B, I, H, lengths=None, gradients=ALL, **options):
    if lengths:
        options["lengths"] = True
    if cell != "lstm":
        gradients = [gradient for gradient in gradients if gradient != "gcn"]
    config = {"name": "torch_" + name, "cell": cell, "T": T, "B": B, "I": I, "H": H, **options}
    tensors, expected = case_file.calm_inputs(config, 1, lengths=lengths, gradients=gradients)
    results = run(config, tensors)
    for output in ("y", "hn", "cn")[: 3 if cell == "lstm" else 2]:
        assert case_file.error(results[output], expected[output]) < 1e-14, (name, output)
    case_file.save(config, VERSIONS, tensors, results)


def main():
    torch.set_num_threads(1)
    both, states = {"direction": "bidirectional"}, {"init_state": True}
    back = {"direction": "reverse"}

    case("lstm_tiny", "lstm", 1, 1, 1, 1)
    case("lstm_plain", "lstm", 5, 3, 4, 7, gradients=["gy"])
    case("lstm_states", "lstm", 6, 2, 3, 5, **states)
    case("lstm_layers", "lstm", 4, 3, 5, 6, layers=3, **states)
    case("lstm_wide", "lstm", 3, 2, 5, 65, **states)
    case("lstm_long", "lstm", 130, 2, 2, 3, **states)
    case("lstm_ghn", "lstm", 4, 2, 3, 5, layers=2, gradients=["ghn"], **states)
    case("lstm_gcn", "lstm", 4, 2, 3, 5, layers=2, gradients=["gcn"], **both)
    case("lstm_single", "lstm", 5, 2, 3, 4, bias="single", layers=2, **states)
    case("lstm_both", "lstm", 5, 3, 4, 6, layers=2, **both, **states)
    case("lstm_both_lengths", "lstm", 7, 5, 3, 4, lengths=[3, 6, 1, 6, 2], layers=2, padding_value=2.5, **both, **states)
    case("lstm_reverse", "lstm", 5, 3, 4, 7, layers=2, **back, **states)
    case("lstm_reverse_lengths", "lstm", 6, 4, 3, 5, lengths=[5, 1, 6, 3], **back, **states)
    case("lstm_projection", "lstm", 5, 3, 4, 7, proj_size=3, **states)
    case("lstm_projection_both", "lstm", 6, 3, 4, 5, proj_size=2, lengths=[4, 6, 2], layers=3, **both, **states)
    case("lstm_projection_reverse", "lstm", 4, 2, 3, 6, proj_size=4, bias="none", layers=2, **back)
    case("lstm_batch_first", "lstm", 5, 3, 4, 6, lengths=[5, 2, 4], batch_first=True, layers=2, **both, **states)
    case("lstm_sum", "lstm", 5, 3, 4, 6, lengths=[2, 5, 4], merge="sum", layers=3, padding_value=-1, **both, **states)
    case("lstm_sum_projection", "lstm", 4, 2, 5, 6, proj_size=3, merge="sum", layers=2, **both)
    case("lstm_skip", "lstm", 5, 3, 6, 6, skip_input=True, layers=2, **states)
    case("lstm_skip_both", "lstm", 5, 3, 4, 4, skip_input=True, lengths=[3, 5, 1], bias="none", **both)
    case("lstm_last", "lstm", 5, 4, 3, 6, lengths=[3, 5, 1, 4], last_only=True, layers=2, **both, **states)
    case("lstm_last_sum", "lstm", 5, 3, 3, 4, last_only=True, merge="sum", batch_first=True, **both)

    case("gru_plain", "gru", 5, 3, 4, 7, gradients=["gy"])
    case("gru_layers", "gru", 6, 2, 3, 5, layers=3, **states)
    case("gru_wide", "gru", 3, 2, 5, 65, **states)
    case("gru_none", "gru", 5, 2, 3, 4, bias="none", **states)
    case("gru_single", "gru", 5, 2, 3, 4, bias="single", layers=2, **both)
    case("gru_both_lengths", "gru", 7, 5, 3, 4, lengths=[3, 6, 1, 6, 2], layers=2, padding_value=2.5, **both, **states)
    case("gru_reverse_lengths", "gru", 6, 4, 3, 5, lengths=[5, 1, 6, 3], batch_first=True, layers=2, **back, **states)
    case("gru_sum_last", "gru", 5, 3, 4, 6, lengths=[2, 5, 4], merge="sum", last_only=True, layers=2, **both, **states)
    case("gru_skip", "gru", 5, 3, 6, 6, skip_input=True, layers=2, merge="sum", **both)

    case("tanh_plain", "rnn_tanh", 5, 3, 4, 7, gradients=["gy"])
    case("tanh_layers", "rnn_tanh", 6, 2, 3, 5, layers=3, bias="single", **states)
    case("tanh_both_lengths", "rnn_tanh", 7, 5, 3, 4, lengths=[3, 6, 1, 6, 2], layers=2, padding_value=2.5, **both, **states)
    case("tanh_skip_reverse", "rnn_tanh", 5, 3, 6, 6, skip_input=True, bias="none", last_only=True, **back, **states)
    case("relu_plain", "rnn_relu", 5, 3, 4, 7, **states)
    case("relu_both_lengths", "rnn_relu", 6, 4, 3, 5, lengths=[2, 6, 1, 4], layers=2, batch_first=True, **both, **states)
    case("relu_reverse", "rnn_relu", 5, 2, 3, 4, layers=2, bias="none", **back)


if __name__ == "__main__":
    main()
