// SPDX-License-Identifier: Apache-2.0
// The entry for Node: what of the package depends on the platform.
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { api } from './api.js';

const platform = {
  cores: availableParallelism(),

  spawn() {
    // Without the flags of this process, which may be about its own script.
    const worker = new Worker(new URL('./worker-node.js', import.meta.url), { execArgv: [] });
    return {
      ask: (message, transfer) =>
        new Promise((resolve, reject) => {
          worker.removeAllListeners('message').once('message', resolve);
          worker.removeAllListeners('error').once('error', reject);
          worker.postMessage(message, transfer);
        }),
      end: () => worker.terminate(),
    };
  },

  /** Here a URL may also be `file:` or a path. */
  async open(url, signal) {
    if (/^(https?|data|blob):/.test(url)) return fetch(url, { signal });
    return new Response(await readFile(/^file:/.test(url) ? fileURLToPath(url) : url, { signal }));
  },

  runtime: () => import('onnxruntime-web'),
};

export const { loadCwb, unpackCwb, decodeCwb, verifyCwb } = api(platform);
export { CwbError } from './errors.js';
