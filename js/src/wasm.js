// SPDX-License-Identifier: Apache-2.0
import { CwbError, decoderError } from './errors.js';

const TYPES = { 1: 'float32', 10: 'float16', 11: 'float64', 16: 'bfloat16' };
const FIELDS = 17; // of describe() in wasm/cwb_wasm.c

/** The decoder in a WebAssembly module, with one open file. */
export class Decoder {
  /** @param {WebAssembly.Instance} instance */
  constructor(instance) {
    this.calls = instance.exports;
    this.calls._initialize();
    this.calls.start();
  }

  /** @param {WebAssembly.Module} module */
  static async from(module) {
    return new Decoder(await WebAssembly.instantiate(module));
  }

  /** Memory for `size` bytes: its address. */
  allocate(size) {
    const start = this.calls.allocate(size) >>> 0;
    if (start === 0) throw new CwbError('memory', `no memory for ${size} bytes: WebAssembly has at most 4 GB`);
    return start;
  }

  /** Memory with these bytes: its address. */
  copy(bytes) {
    const start = this.allocate(bytes.length);
    this.bytes(start, bytes.length).set(bytes);
    return start;
  }

  /** Give memory back. */
  release(start) {
    this.calls.release(start);
  }

  /** A view of memory. It is void once anything is allocated. */
  bytes(start, size) {
    return new Uint8Array(this.calls.memory.buffer, start, size);
  }

  /** Open a file of `size` bytes whose header and directory stand at `start`; the number of its tensors. */
  open(start, size) {
    return this.checked(this.calls.open(start, size));
  }

  /** What the directory says about a tensor. */
  describe(index) {
    const start = this.calls.describe(index) >>> 0;
    const [kind, type, order, rank, offset, size, count, , , , ...dims] = new Uint32Array(this.calls.memory.buffer, start, FIELDS);
    return { index, isCoded: kind !== 0, type: TYPES[type], order, offset, size, count, dims: dims.slice(0, rank) };
  }

  /**
   * Decode and check a tensor.
   *
   * @param {ReturnType<Decoder['describe']>} tensor
   * @param {Uint8Array} payload
   * @returns {ArrayBuffer} its elements, row-major
   */
  decode(tensor, payload) {
    const start = this.copy(payload);
    let out = 0;
    try {
      if (tensor.isCoded) out = this.allocate(4 * tensor.count);
      this.checked(this.calls.decode(tensor.index, start, out), `tensor ${tensor.index}: `);
      if (!tensor.isCoded) return payload.slice().buffer;
      return rowMajor(new Float32Array(this.calls.memory.buffer, out, tensor.count), tensor).buffer;
    } finally {
      this.release(out);
      this.release(start);
    }
  }

  /** @param {number} result of a call, negative if it is an error */
  checked(result, where) {
    if (result >= 0) return result;
    const start = this.calls.message(result) >>> 0;
    const memory = new Uint8Array(this.calls.memory.buffer);
    throw decoderError(result, new TextDecoder().decode(memory.subarray(start, memory.indexOf(0, start))), where);
  }
}

/** A copy of a tensor's elements in the order of its dimensions; `order` is cwb_order of decoder_c/cwb.h. */
function rowMajor(stored, { dims, order }) {
  if (order === 0) return stored.slice();
  const last = dims.length - 1;
  const count = (from, to) => dims.slice(from, to).reduce((product, size) => product * size, 1);
  // Each of `stacks` matrices is stored transposed: as `rows` rows of `columns` elements.
  const [stacks, columns, rows] = [
    undefined,
    [count(0, 1), dims[1], count(2)],
    [1, dims[0], count(1)],
    [count(0, last - 1), dims[last - 1], dims[last]],
  ][order];
  const out = new Float32Array(stored.length);
  const tile = 32; // so that a tile of both stays in the processor's cache
  for (let base = 0; base < stacks * rows * columns; base += rows * columns) {
    for (let r0 = 0; r0 < rows; r0 += tile) {
      const r1 = Math.min(r0 + tile, rows);
      for (let c0 = 0; c0 < columns; c0 += tile) {
        const c1 = Math.min(c0 + tile, columns);
        for (let c = c0; c < c1; c++) {
          for (let r = r0; r < r1; r++) out[base + c * rows + r] = stored[base + r * columns + c];
        }
      }
    }
  }
  return out;
}
