// SPDX-License-Identifier: MIT
//
// ONNX Runtime's WebGPU provider (Dawn on Vulkan), forward: usage: node bench/peers/onnxruntime_webgpu.mjs MODULES T B I H FILE.onnx
// MODULES is a folder with node_modules/onnxruntime-node. Prints the milliseconds of a pass and the version.
import {createRequire} from 'node:module';
import {report} from './report.mjs';

const [modules, ...rest] = process.argv.slice(2), [steps, rows, inputs, hidden] = rest.map(Number), file = rest[4];
const require = createRequire(modules + '/');
const ort = require('onnxruntime-node');
const numbers = (count, scale) => Float32Array.from({length: count}, () => (2 * Math.random() - 1) * scale);
const session = await ort.InferenceSession.create(file, {executionProviders: ['webgpu'], logSeverityLevel: 3});
const feeds = {
    x: new ort.Tensor('float32', numbers(steps * rows * inputs, 1), [steps, rows, inputs]),
    h0: new ort.Tensor('float32', numbers(rows * hidden, 0.5), [1, rows, hidden]),
    c0: new ort.Tensor('float32', numbers(rows * hidden, 0.5), [1, rows, hidden]),
};
await report(() => session.run(feeds), 'ONNX Runtime ' + require('onnxruntime-node/package.json').version + ' WebGPU');
process.exit(0);
