// SPDX-License-Identifier: Apache-2.0
import { Decoder } from './wasm.js';

/**
 * What a worker does. The first message has the decoder and a directory, each further one a tensor; each gets one
 * answer.
 *
 * @param {(message: object, transfer: ArrayBuffer[]) => void} answer
 * @returns {(message: any) => Promise<void>} to be called with each message
 */
export function serve(answer) {
  let decoder;
  return async ({ module, directory, size, tensor, payload }) => {
    try {
      if (module) {
        decoder = await Decoder.from(module);
        decoder.open(decoder.copy(directory), size);
        answer({}, []);
      } else {
        const data = decoder.decode(tensor, payload);
        answer({ data }, [data]);
      }
    } catch (error) {
      answer({ error: { code: error.code ?? 'memory', message: error.message } }, []);
    }
  };
}
