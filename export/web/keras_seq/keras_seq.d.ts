/** A piece of a text: what one token adds. */
export interface Piece {
  readonly text: string;
  readonly tokenId: number;
  /** Of the token after those before it, in nats; before the temperature and the filters. */
  readonly logProbability: number;
}

/** The sampling settings, with the names that they have in every runtime. The default of each is that of the file. */
export interface Settings {
  /** Divisor of the logits, 0 to 1e6; 0 takes the most likely token. */
  temperature?: number;
  /** Keep the most likely tokens, this many; 0 is off. */
  top_k?: number;
  /** Keep the most likely tokens that have this probability together, above 0; 1 is off. */
  top_p?: number;
  /** Keep the tokens that have at least this share of the highest probability, 0 to 1; 0 is off. */
  min_p?: number;
}

export interface WriteOptions extends Settings {
  /** Largest number of tokens. Default: 200. */
  max_tokens?: number;
  /** The text ends before the first of these strings. */
  stop?: string | readonly string[];
  /** A 64-bit integer. The same seed gives the same text in every runtime. Default: a new one. */
  seed?: number | bigint;
  /** Stops the text between two pieces, with the finish reason "stopped". */
  signal?: AbortSignal;
}

/** Why a text ended: `<eos>`, a stop string, `max_tokens`, or the host (by `signal`, `return` or leaving the loop). */
export type FinishReason = "eos" | "stop" | "length" | "stopped";

/**
 * A text that is being written. `for await` reads it to its end; `next` reads one piece, so that a text can pause. A text that is
 * given up must be ended by `return`, or by `close` of the model.
 */
export interface Writer extends AsyncIterableIterator<Piece> {
  readonly seed: bigint;
  /** null until the text has ended, and after an error. */
  readonly finishReason: FinishReason | null;
  /** Changes settings from the next token on. */
  change(settings: Settings): void;
  next(): Promise<IteratorResult<Piece, undefined>>;
  return(): Promise<IteratorResult<Piece, undefined>>;
  [Symbol.asyncIterator](): Writer;
}

export interface Suggestion {
  /** The whole word, for a button. */
  readonly text: string;
  /** What a tap appends. */
  readonly insert: string;
  readonly probability: number;
}

export interface NextToken {
  readonly tokenId: number;
  /** What the token would append; "" of `<eos>`, which ends a text. */
  readonly text: string;
  /** Among all tokens; before the temperature and the filters. */
  readonly probability: number;
}

/** What a model knows after a token of a text. */
export interface Traced {
  readonly tokenId: number;
  /** What the token adds to the text; "" of `<s>`, which is the first. */
  readonly text: string;
  /** Of each token of the vocabulary, as the next one, in nats. */
  readonly logProbabilities: Float32Array;
  /**
   * The update gates at this token, an array for each GRU layer: at 0 a unit keeps its memory, at 1 it replaces it. null if the file
   * has no signature `gates`.
   */
  readonly updateGates: Float32Array[] | null;
}

/** A part of a text that a model does not know, from `start` up to `end`, counted as in `text.slice(start, end)`. */
export interface Unknown {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** The tokens of a model. Their ids are their positions. */
export interface Vocabulary {
  readonly tokens: readonly string[];
  /** Characters, words with the space before them, or words between white space. */
  readonly level: "char" | "word" | "whitespace";
  /** Returns the ids of the tokens of a text. */
  encode(text: string): number[];
  /** Returns the text of token ids, which follows the text `before`. */
  decode(ids: Iterable<number>, before?: string): string;
  /** Returns what a token would append to the text `before`; "" for `<pad>`, `<s>` and `<eos>`. */
  piece(id: number, before: string): string;
  /**
   * Returns the parts of a text that the model does not know. At the level "char" these are the characters that are not in the
   * vocabulary: while a text has one, the other methods refuse it. At the levels "word" and "whitespace" these are the words that
   * are read as `<unk>`, without the space before them; where the vocabulary has no `<unk>`, they are refused too.
   */
  unknown(text: string): Unknown[];
}

export interface Score {
  readonly tokens: number[];
  /** Of each token after those before it, in nats. */
  readonly logProbabilities: number[];
  readonly logProbability: number;
}

export interface LearnOptions {
  /** The learning rate, above 0. Default: that of the file. */
  rate?: number;
  /** Whether each line is a text of its own. Default: as the model was trained. */
  by_line?: boolean;
}

/** What a text was for a model that learned from it. */
export interface LearnReport {
  /** Number of tokens. */
  readonly tokens: number;
  /** Negative log-probability of a token, on average, each before the model learned from it. */
  readonly natsPerToken: number;
  /** The same of the model without anything learned. */
  readonly modelNatsPerToken: number;
  /** How much the model uses of what it has learned, after the text: 0 (nothing) to 1. */
  readonly weight: number;
}

/** A .tflite of `keras-seq export`: its address, or its bytes. In Node: its bytes. */
export type Source = string | URL | Uint8Array | ArrayBuffer | Blob;

export interface LoadOptions {
  /**
   * The folder with the wasm of LiteRT.js, a copy of node_modules/@litertjs/core/wasm. Default: that of the package, where the
   * runtime knows it (Node, an import map), else the folder `wasm` beside the page.
   */
  wasm?: string | URL;
}

/** What a model can do with text. Methods that are called at the same time run one after the other. */
export declare class TextModel {
  protected constructor();
  readonly vocabulary: Vocabulary;
  /** The settings that are used where a text has no others. */
  readonly defaults: Required<Settings>;
  /** The model card of the file. */
  readonly card: Readonly<Record<string, unknown>>;
  /** config.json of the file. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Continues a prompt. Wrong options and a prompt that the model cannot read throw here. */
  write(prompt?: string, options?: WriteOptions | null): Writer;
  /**
   * Returns up to `count` (1 to 100, default 3) likely next words, or completions of the last word. If `signal` is aborted, before the
   * call or during it, this rejects with its reason: an AbortError, unless `abort` was given another one.
   */
  suggest(text: string, count?: number, options?: { signal?: AbortSignal } | null): Promise<Suggestion[]>;
  /**
   * Returns the `count` (1 to 100, default 5) likeliest next tokens, the likeliest first. `<pad>`, `<s>` and `<unk>` are never
   * among them; `<eos>` may be. If `signal` is aborted, this rejects as `suggest` does.
   */
  nextTokens(text: string, count?: number, options?: { signal?: AbortSignal } | null): Promise<NextToken[]>;
  /** Returns what the model knows after `<s>` and after each token of a text, in order. The text has at most 1,000 tokens. */
  trace(text: string): Promise<Traced[]>;
  /** Returns the log-probability of each token of a text. */
  score(text: string): Promise<Score>;
  /** Whether the file can learn: it was exported with `learn=True`. In others, the methods that follow reject. */
  readonly hasLearn: boolean;
  /** From how many tokens the model has learned so far. */
  readonly learnedTokens: number;
  /**
   * Learns from a text. What is written and suggested from then on is of the model that has learned; a text that was begun before
   * ends with an error at its next token. If this rejects, what was learned before is kept.
   */
  learn(text: string, options?: LearnOptions | null): Promise<LearnReport>;
  /** Returns what was learned, as a file for `loadLearned`. */
  saveLearned(): Promise<Uint8Array>;
  /** Replaces what was learned by that of a file, which the same model has saved in any language. */
  loadLearned(bytes: Uint8Array | ArrayBuffer): Promise<void>;
  /** Forgets what was learned. */
  forget(): Promise<void>;
  /** Returns the ids of the tokens of a text. */
  encode(text: string): number[];
  /** Returns the text of token ids. */
  decode(ids: Iterable<number>): string;
  /** Frees the memory. Texts that are being written end with an error. */
  close(): Promise<void>;
}

/** A model in this thread. */
export declare class KerasSeq extends TextModel {
  static load(source: Source, options?: LoadOptions): Promise<KerasSeq>;
}

/** Loads LiteRT.js before a model is opened, which takes less time then. */
export declare function loadRuntime(wasm?: string | URL): Promise<void>;
