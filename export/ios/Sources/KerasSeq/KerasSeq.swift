import Foundation

/// A language model in one .tflite of keras_seq, on LiteRT.
///
/// It was not run on a device. All of this package but Apple's frameworks, LiteRT and TensorFlow Lite was compiled and run on
/// Linux; the calls of these were compiled against their published signatures.
///
/// Threads and tasks may share a model: each call of LiteRT has it alone. Its memory is freed with the last reference to it, or
/// by `close`.
public final class KerasSeq: @unchecked Sendable {
    private let model: TextModel
    private let runner: ModelRunner

    /// The tokens of the model, with `encode` and `decode`.
    public var vocabulary: Vocabulary { model.vocabulary }

    /// The model card of the file, in Swift's types; nil is JSON's null.
    public var card: [String: Any?] { model.bundle.card.mapValues(\.value) }

    /// How a token is drawn if the options do not say it: as the file stores.
    public var defaults: Settings { model.defaults }

    /// Opens a model, such as `Bundle.main.url(forResource: "shakespeare", withExtension: "tflite")!`. It takes a moment.
    ///
    /// - Throws: `KerasSeqError` if the file is damaged, or not a model of text; Foundation's errors if it cannot be read.
    public static func open(_ url: URL) async throws -> KerasSeq {
        try await Task.detached(priority: .userInitiated) { try KerasSeq(url) }.value
    }

    private init(_ url: URL) throws {
        let file = [UInt8](try Data(contentsOf: url, options: .mappedIfSafe))
        let bundle = try ModelBundle(file)
        let signatures = try bundle.signatures(file)
        // The model is loaded after its hashes were verified, because a damaged one can crash LiteRT.
        runner = try ModelRunner(path: url.path, signatures: signatures)
        model = try TextModel(bundle, signatures, runner)
    }

    /// Writes a continuation of a prompt, piece by piece, outside of the main thread. Stop asking for pieces to stop it.
    ///
    /// An error is thrown by the first piece that cannot be written: an option is out of range, the prompt has characters that
    /// the model does not know, or the model's logits are not finite.
    public func write(_ prompt: String, _ options: Options = Options()) -> AsyncThrowingStream<String, Error> {
        let source = PieceSource(model, prompt, options)
        return AsyncThrowingStream { try await source.next() }
    }

    /// Returns what writes a continuation of a prompt: it also tells the seed and why the text has ended, and its settings can
    /// be changed between two pieces. Use it outside of the main thread.
    public func writer(_ prompt: String, _ options: Options = Options()) throws -> Writer { try model.write(prompt, options) }

    /// Returns up to `count` words that may come next, or that complete the word which ends the text, the likeliest first.
    public func suggest(_ text: String, count: Int = 3) async throws -> [Suggestion] {
        try await Task.detached(priority: .userInitiated) { try self.model.suggest(text, count: count) }.value
    }

    /// Returns the log-probability in nats of each token of a text.
    public func score(_ text: String) async throws -> Score {
        try await Task.detached(priority: .userInitiated) { try self.model.score(text) }.value
    }

    /// Frees the memory of the model; waits for the call of LiteRT that runs.
    public func close() { runner.close() }
}

/// Makes the pieces of a text, one when it is asked for.
private actor PieceSource {
    private let model: TextModel
    private let prompt: String
    private let options: KerasSeq.Options
    private var writer: KerasSeq.Writer?

    init(_ model: TextModel, _ prompt: String, _ options: KerasSeq.Options) {
        self.model = model
        self.prompt = prompt
        self.options = options
    }

    func next() throws -> String? {
        if writer == nil { writer = try model.write(prompt, options) }
        return try writer?.next()?.text
    }
}
