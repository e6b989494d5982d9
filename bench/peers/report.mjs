// SPDX-License-Identifier: MIT
//
// What the peers in JavaScript share: timing as `vklstm bench` does it, for calls that are promises.

const REPETITION_MS = 20, REPEAT = 11, MOST_MS = 5000;

export async function report(call, name)
{
    let once = 0;
    for (let i = 0; i < 3 && once < 1000; i++) {
        const begin = performance.now();
        await call();
        once = performance.now() - begin;
    }
    const count = Math.max(1, Math.min(2000, Math.floor(1.2 * REPETITION_MS / Math.max(once, 1e-3))));
    const times = [];
    let total = 0;
    while (times.length < REPEAT && (times.length < (once < 1000 ? 3 : 1) || total < MOST_MS)) {
        const begin = performance.now();
        for (let i = 0; i < count; i++)
            await call();
        times.push((performance.now() - begin) / count);
        total += times.at(-1) * count;
    }
    times.sort((a, b) => a - b);
    const median = (times[(times.length - 1) >> 1] + times[times.length >> 1]) / 2;
    console.log(median.toPrecision(6) + ' ' + name);
}
