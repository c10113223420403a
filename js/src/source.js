// SPDX-License-Identifier: Apache-2.0
import { CwbError } from './errors.js';

/**
 * The bytes of a file as they come.
 *
 * @param {string | URL | Response | Blob | ArrayBuffer | ArrayBufferView} source
 * @param {(url: string | URL, signal?: AbortSignal) => Promise<Response>} open
 * @param {AbortSignal} [signal]
 * @returns {AsyncGenerator<Uint8Array>}
 */
export async function* chunks(source, open, signal) {
  if (source instanceof ArrayBuffer) return yield new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return yield new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const name = source.url || String(source);
  let stream;
  if (source instanceof Blob) stream = source.stream();
  else stream = (source instanceof Response ? checked(source) : checked(await fetched(source, open, signal))).body;
  const reader = stream.getReader();
  const stop = () => reader.cancel(signal.reason).catch(() => {});
  signal?.addEventListener('abort', stop, { once: true });
  try {
    signal?.throwIfAborted();
    for (;;) {
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) return;
      yield value;
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof CwbError) throw error;
    throw new CwbError('network', `${name}: the connection broke (${error.message})`, { cause: error });
  } finally {
    signal?.removeEventListener('abort', stop);
    reader.cancel().catch(() => {});
  }
}

async function fetched(url, open, signal) {
  try {
    return await open(url, signal);
  } catch (error) {
    signal?.throwIfAborted();
    const why = 'there is no such file or server, or the server does not allow this page to read it (CORS)';
    throw new CwbError('network', `cannot read ${url}: ${why}`, { cause: error });
  }
}

function checked(response) {
  if (response.ok) return response;
  throw new CwbError('network', `${response.url} answers ${response.status} ${response.statusText}`.trim());
}
