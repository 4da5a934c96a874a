/** What a .tflite of `keras-seq export` carries. */
export interface Bundle {
  readonly vocabulary: {
    readonly tokens: string[];
    readonly level: "char" | "word" | "whitespace";
    encode(text: string): number[];
    decode(ids: Iterable<number>, before?: string): string;
  };
  readonly config: Readonly<Record<string, unknown>>;
  readonly card: Readonly<Record<string, unknown>>;
  /** The plain .tflite. */
  readonly model: Uint8Array;
}

/** Reads a file without LiteRT.js, and verifies it. */
export declare function readBundle(bytes: Uint8Array): Promise<Bundle>;
