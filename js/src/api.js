// SPDX-License-Identifier: Apache-2.0
import { CwbError } from './errors.js';
import { Reading } from './reading.js';
import { chunks } from './source.js';
import { Decoder } from './wasm.js';
import code from './cwb-wasm.js';

const DATA = 'cwb.data'; // what the graph calls its external data
const APART = 1 << 16; // bytes of a tensor from which on it is external data; others stay in the graph

/** Typed arrays of elements, as onnxruntime's tensors take them; what is not here becomes bytes. */
const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: globalThis.Float16Array ?? Uint16Array,
  bfloat16: Uint16Array,
  int8: Int8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
};

let compiled;

/** The decoder's code, compiled once. */
function module() {
  compiled ??= WebAssembly.compile(Uint8Array.from(atob(code), (character) => character.charCodeAt(0))).catch(
    (cause) => {
      compiled = undefined;
      const why = "a page with a Content-Security-Policy needs script-src 'wasm-unsafe-eval'";
      throw new CwbError('no-wasm', `WebAssembly is not allowed here: ${why} (${cause.message})`, { cause });
    },
  );
  return compiled;
}

/** The functions of the package on a platform: browser.js, node.js. */
export function api(platform) {
  /** Read, decode and check a file; `use` makes something of the decoder, with its model open, and of the tensors. */
  async function withFile(source, { onprogress, signal, workers = platform.cores, base }, use) {
    const code = await module();
    const decoder = await Decoder.from(code);
    signal?.throwIfAborted();
    const options = {
      module: code,
      spawn: platform.spawn,
      cores: Math.min(workers, 8),
      hasBase: base !== undefined,
      onprogress,
    };
    const reading = new Reading(decoder, options);
    const stop = () => reading.close(signal.reason);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const before = base === undefined ? undefined : await whole(chunks(base, platform.open, signal));
      await reading.read(chunks(source, platform.open, signal));
      signal?.throwIfAborted();
      decoder.openModel(reading.start, reading.total, before);
      return use(decoder, await reading.converted());
    } finally {
      reading.close();
      signal?.removeEventListener('abort', stop);
    }
  }

  async function decodeCwb(source, options = {}) {
    return withFile(source, options, (decoder, decoded) => {
      const arrays = new Map();
      for (let index = 0; index < decoder.tensors; index++) {
        const { name, type, dims } = decoder.modelTensor(index);
        const data = new (ARRAYS[type] ?? Uint8Array)(decoder.elements(index, decoded[index]));
        arrays.set(name, { type, dims, data });
      }
      return arrays;
    });
  }

  async function verifyCwb(source, options = {}) {
    return withFile(source, options, (decoder, decoded) => {
      for (let index = 0; index < decoder.tensors; index++) decoder.elements(index, decoded[index]);
      if (decoder.hasGraph) decoder.graph(DATA, APART, decoded);
      return { tensors: decoder.tensors, hasGraph: decoder.hasGraph };
    });
  }

  async function unpackCwb(source, options = {}) {
    return withFile(source, options, (decoder, decoded) => {
      const { graph, data } = decoder.graph(DATA, APART, decoded);
      return { model: graph, externalData: data.length > 0 ? [{ path: DATA, data }] : [] };
    });
  }

  async function loadCwb(source, options = {}) {
    const { sessionOptions = {} } = options;
    const { InferenceSession } = options.ort ?? (await runtime());
    const { model, externalData } = await unpackCwb(source, options);
    const more = [...(sessionOptions.externalData ?? []), ...externalData];
    return InferenceSession.create(model, more.length > 0 ? { ...sessionOptions, externalData: more } : sessionOptions);
  }

  async function runtime() {
    try {
      return await platform.runtime();
    } catch (cause) {
      const how = 'npm install onnxruntime-web, or pass the module as the option ort';
      throw new CwbError('no-runtime', `onnxruntime-web is not there (${how}): ${cause.message}`, { cause });
    }
  }

  return { loadCwb, unpackCwb, decodeCwb, verifyCwb };
}

/** All chunks in one. */
async function whole(parts) {
  const all = [];
  for await (const part of parts) all.push(part);
  return new Uint8Array(await new Blob(all).arrayBuffer());
}
