// SPDX-License-Identifier: Apache-2.0
import { CwbError, decoderError } from './errors.js';

/** Types of elements as onnxruntime calls them, by the numbers of ONNX. */
const TYPES = (
  ' float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64 complex128 bfloat16' +
  ' float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz uint4 int4 float4e2m1 float8e8m0 uint2 int2'
).split(' ');

/** Bytes of an element of the types that workers decode to. */
export const BYTES = { float32: 4, float16: 2, float64: 8, bfloat16: 2 };

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
    const start = size < 2 ** 32 ? this.calls.allocate(size || 1) >>> 0 : 0;
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

  /** What the directory says about a tensor of the file at `start`. */
  describe(index, start) {
    const [isCoded, type, count, offset, size] = this.fields(this.calls.describe(index, start), 5);
    return { index, isCoded: isCoded === 1, type: TYPES[type], count, offset, size };
  }

  /**
   * Decode and check a tensor.
   *
   * @param {{index: number, isCoded: boolean, type: string, count: number}} tensor as `describe` tells it; if it is
   *   coded, `type` may be another type of floats
   * @param {Uint8Array} payload
   * @returns {ArrayBuffer} its elements, row-major
   */
  decode({ index, isCoded, type, count }, payload) {
    const size = count * BYTES[type];
    const start = this.copy(payload);
    let out = 0;
    try {
      out = this.allocate(size);
      this.checked(
        this.calls.decode(index, start, isCoded && type !== 'float32' ? TYPES.indexOf(type) : 0, out),
        `tensor ${index}: `,
      );
      return this.bytes(out, size).slice().buffer;
    } finally {
      this.release(out);
      this.release(start);
    }
  }

  /** Open the model of the file at `start`, all of which is there now, with all checks but those of payloads. */
  openModel(start, size, base) {
    this.hasGraph =
      this.checked(this.calls.model_open(start, size, base ? this.copy(base) : 0, base?.length ?? 0)) === 1;
    this.tensors = this.calls.model_tensors();
  }

  /** What a tensor of the model is. */
  modelTensor(index) {
    const [name, nameSize, dims, rank, type, size, offset, isApart] = this.fields(this.calls.model_tensor(index), 8);
    const memory = new DataView(this.calls.memory.buffer);
    return {
      name: new TextDecoder().decode(this.bytes(name, nameSize)),
      dims: Array.from({ length: rank }, (_, axis) => Number(memory.getBigInt64(dims + 8 * axis, true))),
      type: TYPES[type],
      size,
      offset,
      isApart: isApart === 1,
    };
  }

  /**
   * The elements of a tensor of the model.
   *
   * @param {number} index
   * @param {{type: string, data: ArrayBuffer}} [decoded] the tensor as it is stored; the graph may make another type of it
   * @returns {ArrayBuffer}
   */
  elements(index, decoded) {
    const { type, size } = this.modelTensor(index);
    if (decoded?.type === type) return decoded.data;
    const out = this.allocate(size);
    try {
      this.checked(this.calls.model_decode(index, out, size), `tensor ${index}: `);
      return this.bytes(out, size).slice().buffer;
    } finally {
      this.release(out);
    }
  }

  /**
   * The graph as an ONNX model, and beside it the elements of its large tensors.
   *
   * @param {string} location what the graph calls them
   * @param {number} least bytes of a tensor that is large
   * @param {{type: string, data: ArrayBuffer}[]} decoded all tensors; their data are forgotten
   * @returns {{graph: Uint8Array, data: Uint8Array}}
   */
  graph(location, least, decoded) {
    if (!this.hasGraph) throw new CwbError('no-graph', 'the file holds weights only, no graph: decodeCwb gives them');
    const text = this.copy(new TextEncoder().encode(`${location}\0`));
    this.checked(this.calls.model_apart(text, least));
    this.release(text);
    const data = new Uint8Array(this.calls.model_data_size() >>> 0);
    const size = this.calls.model_size() >>> 0;
    const frame = this.allocate(size);
    this.checked(this.calls.model_frame(frame, size));
    const graph = this.bytes(frame, size).slice();
    this.release(frame);
    for (let index = 0; index < this.tensors; index++) {
      const { offset, isApart } = this.modelTensor(index);
      (isApart ? data : graph).set(new Uint8Array(this.elements(index, decoded[index])), offset);
      if (decoded[index]) decoded[index].data = undefined;
    }
    return { graph, data };
  }

  /** Numbers of a struct. */
  fields(start, count) {
    return new Uint32Array(this.calls.memory.buffer, start >>> 0, count);
  }

  /** @param {number} result of a call, negative if it is an error */
  checked(result, where) {
    if (result >= 0) return result;
    const start = this.calls.message(result) >>> 0;
    const memory = new Uint8Array(this.calls.memory.buffer);
    throw decoderError(result, new TextDecoder().decode(memory.subarray(start, memory.indexOf(0, start))), where);
  }
}
