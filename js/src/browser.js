// SPDX-License-Identifier: Apache-2.0
// The entry for browsers: what of the package depends on the platform.
import { api } from './api.js';

const platform = {
  cores: globalThis.navigator?.hardwareConcurrency ?? 2,

  spawn() {
    const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'cwb' });
    return {
      ask: (message, transfer) =>
        new Promise((resolve, reject) => {
          worker.onmessage = (event) => resolve(event.data);
          worker.onerror = (event) => (event.preventDefault?.(), reject(event));
          worker.postMessage(message, transfer);
        }),
      end: () => worker.terminate(),
    };
  },

  open: (url, signal) => fetch(url, { signal }),

  runtime: () => import('onnxruntime-web'),
};

export const { loadCwb, unpackCwb, decodeCwb, verifyCwb } = api(platform);
export { CwbError } from './errors.js';
