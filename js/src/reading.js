// SPDX-License-Identifier: Apache-2.0
import { BASE, CwbError } from './errors.js';
import { Pool } from './pool.js';
import { BYTES } from './wasm.js';

const HEADER = 20; // bytes
const SMALL = 1 << 14; // elements of a tensor that is not worth a message to a worker
const FEW = 1 << 21; // elements of a file that is not worth starting workers

/**
 * A file being read: its bytes arrive in the decoder's memory, and each tensor is decoded as soon as its payload is
 * there.
 *
 * `tensors` are what Decoder.describe tells, each with `data`: its elements once `read` is done, before that a promise.
 * A delta has none: only its base says what its payloads mean.
 */
export class Reading {
  /**
   * @param {import('./wasm.js').Decoder} decoder
   * @param {{module: WebAssembly.Module, spawn: () => object, cores: number, hasBase: boolean,
   *   onprogress?: (progress: object) => void}} options
   */
  constructor(decoder, options) {
    this.decoder = decoder;
    this.options = options;
    this.start = decoder.allocate(HEADER);
    this.loaded = 0;
    this.total = HEADER; // until the header tells
    this.decoded = 0;
    this.elements = 0;
    this.begun = 0;
    this.tensors = undefined;
  }

  /** @param {AsyncIterable<Uint8Array>} chunks */
  async read(chunks) {
    for await (const chunk of chunks) {
      for (let done = 0; done < chunk.length && !this.failure;) {
        if (this.loaded === this.total) this.decoder.checked(-4);
        done += this.take(chunk.subarray(done));
      }
      if (this.failure) throw this.failure;
      this.report();
    }
    if (this.loaded < HEADER) {
      this.checkHeader();
      throw new CwbError('truncated', `the file is truncated: ${this.loaded} bytes came, its header has ${HEADER}`);
    }
    if (this.loaded < this.total) {
      throw new CwbError('truncated', `the file is truncated: ${this.loaded} of its ${this.total} bytes came`);
    }
    if (!this.tensors) this.open(); // a file of a header alone
    await Promise.all(this.tensors.map(async (tensor) => (tensor.data = await tensor.data)));
    if (this.failure) throw this.failure; // of onprogress
  }

  /** End what goes on. */
  close(reason) {
    this.pool?.close(reason);
  }

  /** Store the first bytes of a chunk, up to where something is to be done; how many. */
  take(chunk) {
    const size = Math.min(chunk.length, (this.loaded < HEADER ? HEADER : this.total) - this.loaded);
    this.decoder.bytes(this.start + this.loaded, size).set(size < chunk.length ? chunk.subarray(0, size) : chunk);
    this.loaded += size;
    if (this.loaded === HEADER) this.checkHeader();
    if (this.loaded >= this.directory && !this.tensors) this.open();
    this.begin();
    return size;
  }

  /** What the first bytes say: is it a .cwb file of a version that we know, and how large is it? */
  checkHeader() {
    const [notCwb, tooNew] = [-1, -2];
    const result = this.decoder.calls.open(this.start, HEADER);
    if (result === notCwb || (this.loaded === HEADER && result === tooNew)) this.decoder.checked(result);
    if (this.loaded < HEADER) return;
    const header = new DataView(this.decoder.calls.memory.buffer, this.start, HEADER);
    this.total = Math.max(HEADER, header.getUint32(12, true));
    this.directory = Math.min(HEADER + header.getUint32(8, true), this.total);
    if (this.total >= 2 ** 31)
      throw new CwbError('memory', `the file has ${this.total} bytes: more than 2 GB do not fit`);
    const first = this.decoder.bytes(this.start, HEADER).slice();
    this.decoder.release(this.start);
    this.start = this.decoder.allocate(this.total);
    this.decoder.bytes(this.start, HEADER).set(first);
  }

  /** Header and directory are there. */
  open() {
    const { decoder, options } = this;
    const count = decoder.calls.open(this.start, this.total);
    this.tensors = [];
    if (count === BASE) {
      if (options.hasBase) return;
      throw new CwbError('base', 'the file is a delta: give the file that it changes as the option base');
    }
    decoder.checked(count);
    this.tensors = Array.from({ length: count }, (_, index) => decoder.describe(index, this.start));
    const coded = this.tensors.filter((tensor) => tensor.isCoded);
    this.elements = coded.reduce((sum, tensor) => sum + tensor.count, 0);
    const large = this.elements < FEW ? 0 : coded.filter((tensor) => tensor.count > SMALL).length;
    const directory = decoder.bytes(this.start, this.directory).slice();
    const greeting = { module: options.module, directory, size: this.total };
    const here = (tensor, payload) => decoder.decode(tensor, payload);
    this.pool = new Pool(options.spawn, Math.min(large, options.cores), greeting, here);
  }

  /** Begin to decode the tensors whose payloads have come. */
  begin() {
    for (; this.begun < (this.tensors?.length ?? 0); this.begun++) {
      const tensor = this.tensors[this.begun];
      if (tensor.offset + tensor.size > this.loaded) return;
      tensor.data = this.decode(tensor);
      const done = () => {
        this.decoded += tensor.isCoded ? tensor.count : 0;
        this.report();
      };
      Promise.resolve(tensor.data)
        .then(done)
        .catch((error) => (this.failure ??= error));
    }
  }

  /** The elements of a tensor, or a promise of them. */
  decode({ index, isCoded, type, count, offset, size }) {
    const tensor = { index, isCoded, type, count }; // what a message can hold
    const payload = () => this.decoder.bytes(this.start + offset, size).slice();
    return count > SMALL ? this.pool.decode(tensor, payload) : this.decoder.decode(tensor, payload());
  }

  /** The tensors as the graph, which is open now, has them: it may make other floats of what was stored as float32. */
  async converted() {
    const { tensors, decoder } = this;
    const types = tensors.map(({ index }) => decoder.modelTensor(index).type);
    return Promise.all(
      tensors.map(async (tensor, index) => {
        const type = types[index];
        if (!tensor.isCoded || type === tensor.type || !BYTES[type]) return tensor;
        return { ...tensor, type, data: await this.decode({ ...tensor, type }) };
      }),
    );
  }

  report() {
    const { loaded, total, decoded, elements } = this;
    if (this.tensors) this.options.onprogress?.({ loaded, total, decoded, elements });
  }
}
