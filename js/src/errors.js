// SPDX-License-Identifier: Apache-2.0

/** What is wrong with a file, or with the way it was asked for. `code` is stable, `message` is for people. */
export class CwbError extends Error {
  /**
   * @param {string} code one of the list in index.d.ts
   * @param {string} message
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, options) {
    super(message, options);
    this.name = 'CwbError';
    this.code = code;
  }
}

/** The error of a delta without its base, or with another. */
export const BASE = -19;

const LARGE = -72;

/** Codes for errors of the decoder (cwb.h, cwb_onnx.h of decoder_c); those that are not here mean damage. */
const CODES = {
  [-1]: 'not-cwb',
  [-2]: 'too-new',
  [-3]: 'truncated',
  [BASE]: 'base',
  [-64]: 'memory',
  [-71]: 'no-graph',
  [LARGE]: 'memory',
};

/**
 * @param {number} error of the decoder, negative
 * @param {string} text what the decoder says about it
 * @param {string} [where]
 */
export function decoderError(error, text, where = '') {
  if (error === LARGE) text = 'a tensor, or the model beside its large tensors, exceeds 2 GB';
  return new CwbError(CODES[error] ?? 'damaged', `${where}${text}`);
}
