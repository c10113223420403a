// SPDX-License-Identifier: Apache-2.0
import { CwbError, decoderError } from './errors.js';

/** Types of elements as onnxruntime calls them, by the numbers of ONNX. */
const TYPES = [
  ...['', 'float32', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16', 'float64', 'uint32'],
  ...['uint64', 'complex64', 'complex128', 'bfloat16', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz'],
  ...['uint4', 'int4', 'float4e2m1', 'float8e8m0', 'uint2', 'int2'],
];
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

  /** Open the model of the file at `start`, all of which is there now, with all checks but those of payloads. */
  openModel(start, size, base) {
    const [other, otherSize] = base ? [this.copy(base), base.length] : [0, 0];
    this.checkedModel(this.calls.model_open(start, size, other, otherSize));
    this.hasGraph = this.calls.model_has_graph() === 1;
    this.tensors = this.calls.model_tensors();
  }

  /** What a tensor of the model is. */
  modelTensor(index) {
    const { buffer } = this.calls.memory;
    const start = this.calls.model_tensor(index) >>> 0;
    const [name, nameSize, dims, rank, type, size, offset, apart] = new Uint32Array(buffer, start, 8);
    return {
      name: new TextDecoder().decode(new Uint8Array(buffer, name, nameSize)),
      dims: Array.from(new BigInt64Array(buffer, dims, rank), Number),
      type: TYPES[type],
      size,
      offset,
      isApart: apart === 1,
    };
  }

  /**
   * The elements of a tensor of the model.
   *
   * @param {number} index
   * @param {{type: string, data: ArrayBuffer}} [decoded] the tensor as the directory tells it; the graph may tell another type
   * @returns {ArrayBuffer}
   */
  elements(index, decoded) {
    const { type, size } = this.modelTensor(index);
    if (decoded?.type === type) return decoded.data;
    const out = this.allocate(size);
    try {
      this.checkedModel(this.calls.model_decode(index, out, size), `tensor ${index}: `);
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
    this.checkedModel(this.calls.model_apart(text, least));
    this.release(text);
    const data = new Uint8Array(this.calls.model_data_size() >>> 0);
    const size = this.calls.model_size() >>> 0;
    const frame = this.allocate(size);
    this.checkedModel(this.calls.model_frame(frame, size));
    const graph = this.bytes(frame, size).slice();
    this.release(frame);
    for (let index = 0; index < this.tensors; index++) {
      const { offset, isApart } = this.modelTensor(index);
      (isApart ? data : graph).set(new Uint8Array(this.elements(index, decoded[index])), offset);
      if (decoded[index]) decoded[index].data = undefined;
    }
    return { graph, data };
  }

  checkedModel(result, where) {
    return this.checked(result, where, this.calls.model_message);
  }

  /** @param {number} result of a call, negative if it is an error */
  checked(result, where, message = this.calls.message) {
    if (result >= 0) return result;
    const start = message(result) >>> 0;
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
