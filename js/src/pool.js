// SPDX-License-Identifier: Apache-2.0
import { CwbError } from './errors.js';

/**
 * Workers that decode tensors side by side. They start when there is work; of the tensors that wait the largest goes
 * first.
 *
 * A page may be unable to start workers (their script is of another origin, or its policy forbids them), and a worker
 * may run out of memory. Then this thread does the work.
 */
export class Pool {
  /**
   * @param {() => {ask(message: object, transfer: ArrayBuffer[]): Promise<any>, end(): void}} spawn starts a worker
   * @param {number} size workers at most
   * @param {object} greeting the first message to each
   * @param {(tensor: object, payload: Uint8Array) => ArrayBuffer} decodeHere what this thread does instead
   */
  constructor(spawn, size, greeting, decodeHere) {
    this.spawn = spawn;
    this.free = size; // workers that may still be started
    this.greeting = greeting;
    this.decodeHere = decodeHere;
    this.idle = [];
    this.all = new Set();
    this.jobs = [];
  }

  /**
   * @param {{count: number}} tensor
   * @param {() => Uint8Array} payload gives a copy, when it is needed
   * @returns {Promise<ArrayBuffer>}
   */
  decode(tensor, payload) {
    const result = new Promise((resolve, reject) => this.jobs.push({ tensor, payload, resolve, reject }));
    this.jobs.sort((a, b) => a.tensor.count - b.tensor.count);
    this.feed();
    return result;
  }

  /** End all workers. What they have not done fails with `reason`. */
  close(reason = new Error('closed')) {
    this.free = 0;
    this.closed = reason;
    for (const worker of this.all) worker.end();
    for (const job of this.jobs.splice(0)) job.reject(this.closed);
    for (const worker of this.all) worker.job?.reject(this.closed);
  }

  /** Give work to whoever can do it. */
  feed() {
    while (this.jobs.length > 0 && this.idle.length > 0) this.give(this.idle.pop(), this.jobs.pop());
    for (let left = this.jobs.length; left > 0 && this.free > 0; left--) this.start();
    if (this.all.size === 0) {
      for (const job of this.jobs.splice(0)) this.here(job);
    }
  }

  async start() {
    this.free--;
    let worker;
    try {
      worker = this.spawn();
      this.all.add(worker);
      await worker.ask(this.greeting, []);
      this.idle.push(worker);
    } catch {
      this.drop(worker);
    }
    this.feed();
  }

  async give(worker, job) {
    worker.job = job;
    let answer;
    try {
      const payload = job.payload();
      answer = await worker.ask({ tensor: job.tensor, payload }, [payload.buffer]);
      this.idle.push(worker);
    } catch {
      this.drop(worker);
    }
    worker.job = undefined;
    if (answer?.data) job.resolve(answer.data);
    else if (answer && answer.error.code !== 'memory')
      job.reject(new CwbError(answer.error.code, answer.error.message));
    else this.here(job);
    this.feed();
  }

  /** Forget a worker that failed. */
  drop(worker) {
    worker?.end();
    this.all.delete(worker);
  }

  /** Do a job on this thread. */
  here(job) {
    if (this.closed) return job.reject(this.closed);
    try {
      job.resolve(this.decodeHere(job.tensor, job.payload()));
    } catch (error) {
      job.reject(error);
    }
  }
}
