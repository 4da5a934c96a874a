import { Vocabulary } from "./keras_seq.js";

/** What a .tflite of `keras-seq export` carries. */
export interface Bundle {
  readonly vocabulary: Vocabulary;
  readonly config: Readonly<Record<string, unknown>>;
  readonly card: Readonly<Record<string, unknown>>;
  /** The plain .tflite. */
  readonly model: Uint8Array;
}

/** Reads a file without LiteRT.js, and verifies it. */
export declare function readBundle(bytes: Uint8Array): Promise<Bundle>;
