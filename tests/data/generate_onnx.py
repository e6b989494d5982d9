#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the case files tests/data/cases/onnx_*.safetensors with ONNX Runtime: what only ONNX's LSTM, GRU and RNN have. Forward only.

    python3 -m venv DIR && DIR/bin/pip install onnx onnxruntime
    DIR/bin/python tests/data/generate_onnx.py

ONNX Runtime computes in float32, so a number here is good to some 1e-6. Before a file is written, its outputs are compared
with the equations of case_file.py, which are in float64.

ONNX's layouts, for one layer with D directions:
    W [D][G H][I], R [D][G H][H]     LSTM's gates are i o f c (ours i f g o), GRU's z r h (ours r z n)
    B [D][2 G H]                     Wb, then Rb (our bias_ih, then bias_hh), gates as above
    P [D][3 H]                       i o f (our weight_ch is i f o)
    Y [T][D][N][H]                   ours is [T][N][D H]; past a row's end it is 0
    clip                             our preact_clip: it acts on the arguments of gates, and not on that of h(c)
    linear_before_reset              our reset_after; ONNX's default is 0
More layers are more nodes, each fed with the Y of the one before.

Left out, because ONNX Runtime 1.32 on the CPU differs from ONNX's text there:
    final states of a row of length 0    0, and not the initial ones (y is right: such cases hold y alone, or have no initial states)
    ThresholdedRelu without alpha        0, and not the default 1 of ONNX's ThresholdedRelu operator (alpha is given here)
"""
import case_file
import numpy
import onnx
import onnxruntime
from case_file import get
from onnx import TensorProto, helper

VERSIONS = {
    "generator": "tests/data/generate_onnx.py",
    "onnx": onnx.__version__,
    "onnxruntime": onnxruntime.__version__,
    "provider": "CPUExecutionProvider",
}
NODES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,), "rnn_relu": (0,)}  # our gate in each of ONNX's places


def gates(config, rows):
    """Rows of gates from our order to ONNX's."""
    H = config["H"]
    return numpy.concatenate([rows[g * H : (g + 1) * H] for g in ORDER[config["cell"]]])


def node(config, tensors, layer, x):
    """One layer: y [T][N][D H], hn, cn."""
    cell, T, B, H = config["cell"], config["T"], config["B"], config["H"]
    ends = [f"_l{layer}{suffix}" for suffix in case_file.directions(config)]
    D = len(ends)
    feed = {
        "X": x,
        "W": numpy.stack([gates(config, tensors["w.weight_ih" + end]) for end in ends]),
        "R": numpy.stack([gates(config, tensors["w.weight_hh" + end]) for end in ends]),
    }
    if get(config, "bias") != "none":
        none = numpy.zeros(case_file.GATES[cell] * H)
        feed["B"] = numpy.stack(
            [
                numpy.concatenate(
                    [gates(config, tensors["w.bias_ih" + end]), gates(config, tensors.get("w.bias_hh" + end, none))]
                )
                for end in ends
            ]
        )
    if "lengths" in tensors:
        feed["sequence_lens"] = tensors["lengths"]
    part = slice(layer * D, (layer + 1) * D)
    if "h0" in tensors:
        feed["initial_h"] = tensors["h0"][part]
    if "c0" in tensors:
        feed["initial_c"] = tensors["c0"][part]
    if get(config, "peephole"):
        feed["P"] = numpy.stack([tensors["w.weight_ch" + end][[0, 2, 1]].reshape(-1) for end in ends])

    attributes = {"hidden_size": H, "direction": get(config, "direction")}
    activations = config.get("activations")
    if not activations and cell == "rnn_relu":
        activations = [[{"name": "Relu"}]] * D
    if activations:
        flat = [activation for direction in activations[:D] for activation in direction]
        attributes["activations"] = [activation["name"] for activation in flat]
        # ONNX hands these out in order to the functions that take one, so a list is whole or not there
        for key in ("alpha", "beta"):
            values = [activation[key] for activation in flat if key in activation]
            if values:
                attributes["activation_" + key] = values
    if get(config, "preact_clip"):
        attributes["clip"] = float(get(config, "preact_clip"))
    if get(config, "input_forget"):
        attributes["input_forget"] = 1
    if cell == "gru":
        attributes["linear_before_reset"] = int(get(config, "reset_after"))

    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"][: 8 if cell == "lstm" else 6]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if cell == "lstm" else 2]
    feed = {name: value.astype(numpy.int32 if name == "sequence_lens" else numpy.float32) for name, value in feed.items()}
    kind = {name: TensorProto.INT32 if name == "sequence_lens" else TensorProto.FLOAT for name in feed}
    graph = helper.make_graph(
        [helper.make_node(NODES[cell], [name if name in feed else "" for name in names], outputs, **attributes)],
        "case",
        [helper.make_tensor_value_info(name, kind[name], value.shape) for name, value in feed.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if name == "Y" else 3)) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, hn, *cn = session.run(outputs, feed)
    return y.transpose(0, 2, 1, 3).reshape(T, B, D * H), hn, cn[0] if cn else hn


def run(config, tensors):
    y, finals = tensors["x"], []
    for layer in range(get(config, "layers")):
        y, *final = node(config, tensors, layer, y)
        finals.append(final)
    return {"y": y, "hn": numpy.concatenate([h for h, c in finals]), "cn": numpy.concatenate([c for h, c in finals])}


def activation(name, alpha=None, beta=None):
    """Numbers that are exact in float32."""
    given = {"name": name}
    if alpha is not None:
        given["alpha"] = alpha
    if beta is not None:
        given["beta"] = beta
    return given


def case(name, cell, T, B, I, H, lengths=None, scale=1.0, hold=("y", "hn", "cn"), **options):
    if lengths:
        options["lengths"] = True
    config = {"name": "onnx_" + name, "cell": cell, "T": T, "B": B, "I": I, "H": H, **options}
    tensors, expected = case_file.calm_inputs(config, 1, lengths=lengths, scale=scale)
    results = run(config, tensors)
    results = {output: results[output] for output in hold if output != "cn" or cell == "lstm"}
    for output in results:
        assert case_file.error(results[output], expected[output]) < 1e-6, (name, output)
    case_file.save(config, VERSIONS, tensors, results)


def main():
    both, back, states = {"direction": "bidirectional"}, {"direction": "reverse"}, {"init_state": True}
    ragged, empty = {"lengths": [4, 6, 1, 3]}, {"lengths": [0, 2, 4, 0]}
    clip, before = {"preact_clip": 0.75, "scale": 2}, {"reset_after": False}
    a = activation

    case("lstm_peephole", "lstm", 5, 3, 4, 6, peephole=True, **states)
    case("lstm_peephole_layers", "lstm", 6, 4, 3, 5, peephole=True, layers=2, **ragged, **both, **states)
    case("lstm_clip", "lstm", 6, 3, 4, 6, **clip, **states)
    case("lstm_clip_peephole", "lstm", 6, 3, 4, 6, peephole=True, **clip, **back, **states)
    case("lstm_coupled", "lstm", 6, 3, 4, 6, input_forget=True, **states)
    case("lstm_coupled_all", "lstm", 6, 4, 3, 5, input_forget=True, peephole=True, **clip, **ragged, **both, **states)
    case("lstm_empty_rows", "lstm", 5, 4, 3, 5, **empty, **both)
    case("lstm_empty_rows_y", "lstm", 5, 4, 3, 5, hold=["y"], **empty, **back, **states)
    case("lstm_reverse_none", "lstm", 6, 4, 3, 5, bias="none", **ragged, **back)
    case("lstm_hard", "lstm", 6, 3, 4, 6, activations=[[a("HardSigmoid"), a("Softsign"), a("Elu")]], **states)
    given = [a("HardSigmoid", 0.25, 0.625), a("ScaledTanh", 1.5, 0.75), a("Affine", 0.5, 0.125)]
    case("lstm_given", "lstm", 6, 3, 4, 6, activations=[given], **back, **states)
    lists = [
        [a("Sigmoid"), a("Softplus"), a("Relu")],
        [a("HardSigmoid", 0.25, 0.5), a("LeakyRelu", 0.125), a("ThresholdedRelu", 0.25)],
    ]
    case("lstm_lists", "lstm", 6, 4, 3, 5, activations=lists, peephole=True, **ragged, **both, **states)

    case("gru_before", "gru", 5, 3, 4, 6, **before, **states)
    case("gru_before_none", "gru", 5, 3, 4, 6, bias="none", **before, **back)
    case("gru_before_layers", "gru", 6, 4, 3, 5, layers=2, **before, **ragged, **both, **states)
    case("gru_before_clip", "gru", 6, 3, 4, 6, bias="single", **before, **clip, **states)
    case("gru_after_clip", "gru", 6, 3, 4, 6, **clip, **back, **states)
    case("gru_empty_rows", "gru", 5, 4, 3, 5, **before, **empty, **both)
    case("gru_empty_rows_y", "gru", 5, 4, 3, 5, hold=["y"], **empty, **both, **states)
    case("gru_before_hard", "gru", 6, 3, 4, 6, activations=[[a("HardSigmoid"), a("Softsign")]], **before, **states)
    lists = [[a("Affine", 0.25, 0.5), a("Elu", 0.5)], [a("Sigmoid"), a("Relu")]]
    case("gru_before_lists", "gru", 6, 3, 4, 6, activations=lists, **before, **both, **states)
    lists = [[a("HardSigmoid", 0.25, 0.625), a("ScaledTanh", 1.5, 0.75)], [a("Softsign"), a("LeakyRelu", 0.125)]]
    case("gru_after_lists", "gru", 6, 3, 4, 6, activations=lists, **both, **states)

    for name, first, second in (
        ("affine_leaky", a("Affine", 0.75, 0.125), a("LeakyRelu", 0.125)),
        ("thresholded_scaled", a("ThresholdedRelu", 0.25), a("ScaledTanh", 1.5, 0.75)),
        ("hard_elu", a("HardSigmoid"), a("Elu")),
        ("softsign_softplus", a("Softsign"), a("Softplus")),
        ("sigmoid_leaky", a("Sigmoid"), a("LeakyRelu")),
    ):
        case("rnn_" + name, "rnn_tanh", 5, 3, 4, 6, activations=[[first], [second]], **both, **states)
    case("rnn_clip", "rnn_tanh", 6, 4, 3, 5, layers=2, **clip, **ragged, **both, **states)
    case("rnn_relu_clip", "rnn_relu", 6, 4, 3, 5, **clip, **back, **states)
    case("rnn_empty_rows", "rnn_tanh", 5, 4, 3, 5, **empty, **both)


if __name__ == "__main__":
    main()
