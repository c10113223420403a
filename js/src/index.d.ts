// SPDX-License-Identifier: Apache-2.0
import type * as onnxruntime from 'onnxruntime-web';

/** Where a file comes from: an address (in Node also a path), an answer of `fetch`, or its bytes. */
export type CwbSource = string | URL | Response | Blob | ArrayBuffer | ArrayBufferView;

/** How far reading is. */
export interface CwbProgress {
  /** Bytes of the file that have come, and that there are. */
  loaded: number;
  total: number;
  /** Weights that are decoded, and that there are. */
  decoded: number;
  elements: number;
}

export interface CwbOptions {
  /** Called often while the file comes and is decoded. */
  onprogress?: (progress: CwbProgress) => void;
  /** Ends everything; the promise is then rejected with its reason. */
  signal?: AbortSignal;
  /** Workers that decode, at most 8; as many as there are processors by default. 0: the calling thread decodes. */
  workers?: number;
  /** The file that a delta changes. */
  base?: CwbSource;
}

export interface LoadCwbOptions extends CwbOptions {
  /** Options of onnxruntime. */
  sessionOptions?: onnxruntime.InferenceSession.SessionOptions;
  /** The module that makes the session, 'onnxruntime-web/webgpu' for instance; 'onnxruntime-web' by default. */
  ort?: Pick<typeof onnxruntime, 'InferenceSession'>;
}

/** A decoded tensor; `new ort.Tensor(type, data, dims)` takes these. */
export interface CwbArray {
  /** As onnxruntime calls it: float32, float16, int64 ... */
  type: string;
  /**
   * Row-major. float16 is a Float16Array, or its bits where there is none; bfloat16 its bits; what has no typed array,
   * bytes.
   */
  data: ArrayBufferView;
  dims: number[];
}

/** An ONNX model, its large tensors beside it: what `ort.InferenceSession.create` takes. */
export interface CwbModel {
  model: Uint8Array;
  /** For `sessionOptions.externalData`; empty if all tensors are in the model. */
  externalData: { path: string; data: Uint8Array }[];
}

export type CwbErrorCode =
  /** There is no such file or server, it answers with an error, forbids it (CORS), or the connection broke. */
  | 'network'
  /** Not a .cwb file: a page that says "not found", for instance. */
  | 'not-cwb'
  /** Written by a newer version of cerwu-onnx. */
  | 'too-new'
  /** Bytes are missing at the end. */
  | 'truncated'
  /** A checksum does not match, or what the file says makes no sense. */
  | 'damaged'
  /** A delta, but its base was not given; or the file given is not its base, or the file is no delta. */
  | 'base'
  /** The file holds weights only. */
  | 'no-graph'
  /** The model does not fit into memory. */
  | 'memory'
  /** The page may not run WebAssembly. */
  | 'no-wasm'
  /** onnxruntime-web is not installed. */
  | 'no-runtime';

/** All failures that are not the caller's signal or onnxruntime's. */
export class CwbError extends Error {
  readonly name: 'CwbError';
  readonly code: CwbErrorCode;
}

/** An onnxruntime session from a .cwb file. */
export function loadCwb(source: CwbSource, options?: LoadCwbOptions): Promise<onnxruntime.InferenceSession>;

/** The ONNX model of a .cwb file, for a runtime of your own. */
export function unpackCwb(source: CwbSource, options?: CwbOptions): Promise<CwbModel>;

/**
 * The tensors of a .cwb file by name, as they are in the ONNX model. Small ones that are stored with the graph are not
 * among them.
 */
export function decodeCwb(source: CwbSource, options?: CwbOptions): Promise<Map<string, CwbArray>>;

/** Decodes everything and checks every checksum. */
export function verifyCwb(source: CwbSource, options?: CwbOptions): Promise<{ tensors: number; hasGraph: boolean }>;
