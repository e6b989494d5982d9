// SPDX-License-Identifier: MIT
//
// TensorFlow.js's LSTM on WebGPU, in node on the 'webgpu' package (Dawn on Vulkan): usage:
// node bench/peers/tensorflowjs_webgpu.mjs MODULES T B I H forward|train
// MODULES is a folder with node_modules/webgpu, @tensorflow/tfjs and @tensorflow/tfjs-backend-webgpu. Prints the milliseconds of a pass and the version. A
// training step is forward, backward from the mean squared error of y, and Adam.
import {createRequire} from 'node:module';
import {report} from './report.mjs';

const [modules, ...rest] = process.argv.slice(2), [steps, rows, inputs, hidden] = rest.map(Number), pass = rest[4];
const require = createRequire(modules + '/');
const {create, globals} = await import(require.resolve('webgpu'));
Object.assign(globalThis, globals);
Object.defineProperty(globalThis, 'navigator', {value: {gpu: create([])}, configurable: true});
const tf = require('@tensorflow/tfjs');
require('@tensorflow/tfjs-backend-webgpu');
tf.env().set('WEBGPU_CPU_FORWARD', false); // else small operations run in JavaScript
await tf.setBackend('webgpu');
await tf.ready();
if (tf.getBackend() !== 'webgpu') { // it takes another one by itself
    console.error('Error: no WebGPU on this driver');
    process.exit(1);
}

const model = tf.sequential();
model.add(tf.layers.lstm({units: hidden, returnSequences: true, inputShape: [steps, inputs], recurrentActivation: 'sigmoid'}));
model.compile({optimizer: tf.train.adam(0.001), loss: 'meanSquaredError'});
const x = tf.randomUniform([rows, steps, inputs], -1, 1), target = tf.randomUniform([rows, steps, hidden], -1, 1);

async function forward()
{
    const y = model.predict(x, {batchSize: rows});
    await y.data();
    y.dispose();
}

await report(pass === 'train' ? () => model.trainOnBatch(x, target) : forward,
             'TensorFlow.js ' + tf.version_core + ' WebGPU');
process.exit(0);
