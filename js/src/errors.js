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

/** Codes for the errors of the decoder (decoder_c/cwb.h); those that are not here mean damage. */
const CODES = { [-1]: 'not-cwb', [-2]: 'too-new', [-3]: 'truncated' };

/**
 * @param {number} error of the decoder, negative
 * @param {string} text what the decoder says about it
 * @param {string} [where]
 */
export function decoderError(error, text, where = '') {
  return new CwbError(CODES[error] ?? 'damaged', `${where}${text}`);
}
