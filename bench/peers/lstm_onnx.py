#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes an ONNX model of one LSTM layer with random weights: usage: bench/peers/lstm_onnx.py T B I H FILE.onnx

Protocol buffers by hand (onnx.proto of ONNX, fields by number), so that no package is needed. Inputs x, h0 and c0, output y.
"""
import array
import random
import sys


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def shape_of(name, dims):  # ValueInfoProto
    shape = b"".join(data(1, number(1, dim)) for dim in dims)
    return data(1, name) + data(2, data(1, number(1, 1) + data(2, shape)))


def tensor(name, dims, scale):  # TensorProto, float
    count = 1
    for dim in dims:
        count *= dim
    values = array.array("f", (random.uniform(-scale, scale) for _ in range(count)))
    return b"".join(number(1, dim) for dim in dims) + number(2, 1) + data(8, name) + data(9, values.tobytes())


def main():
    steps, rows, inputs, hidden = map(int, sys.argv[1:5])
    random.seed(1)
    scale = hidden ** -0.5
    names = ["x", "w", "r", "b", "", "h0", "c0"]
    node = b"".join(data(1, name) for name in names) + data(2, "y") + data(4, "LSTM")
    node += data(5, data(1, "hidden_size") + number(3, hidden) + number(20, 2))
    graph = data(1, node) + data(2, "lstm")
    graph += data(5, tensor("w", [1, 4 * hidden, inputs], scale))
    graph += data(5, tensor("r", [1, 4 * hidden, hidden], scale))
    graph += data(5, tensor("b", [1, 8 * hidden], scale))
    graph += data(11, shape_of("x", [steps, rows, inputs]))
    graph += data(11, shape_of("h0", [1, rows, hidden])) + data(11, shape_of("c0", [1, rows, hidden]))
    graph += data(12, shape_of("y", [steps, 1, rows, hidden]))
    with open(sys.argv[5], "wb") as file:
        file.write(number(1, 8) + data(8, data(1, "") + number(2, 14)) + data(7, graph))


if __name__ == "__main__":
    main()
