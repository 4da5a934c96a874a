import Foundation

/// An input or an output of a signature, a flat array.
enum Tensor: Sendable {
    case integers([Int32])
    case floats([Float])

    var integers: [Int32] { if case .integers(let values) = self { return values } else { return [] } }
    var floats: [Float] { if case .floats(let values) = self { return values } else { return [] } }
}

/// Runs the signatures of a model: arrays by name in, arrays by name out.
protocol Runner: AnyObject {
    func run(_ signature: String, _ inputs: [String: Tensor]) throws -> [String: Tensor]
}

/// The states of a model between two tokens, a flat array for each. They are never changed.
typealias States = [[Float]]

/// The logits after a token, and the states after it.
struct Step {
    let logits: [Float]
    let states: States
}

/// A language model: a bundle, and what runs the signatures of its model.
final class TextModel: @unchecked Sendable {
    static let block = 32 // tokens of a call of `write`

    let bundle: ModelBundle
    let vocabulary: KerasSeq.Vocabulary
    let defaults: KerasSeq.Settings // those stored in the file
    private let signatures: [String: Signature]
    private let runner: Runner
    private let stateNames: [String]
    private let prefillSteps: Int
    private var firstStates: States = []
    private let lock = NSLock()

    /// What was read last, so that a text which grows is not read again from its beginning.
    private var lastRead: (tokens: [Int], step: Step)?

    var writes: Bool { signatures["write"] != nil }

    init(_ bundle: ModelBundle, _ signatures: [String: Signature], _ runner: Runner) throws {
        guard let words = bundle.vocabulary else { throw KerasSeqError("the file has no vocabulary, so it cannot write text") }
        try words.requireReserved()
        let isExplicit = bundle.config["state"]?.string == "explicit"
        try demand(isExplicit, "the file must have explicit states: export it with --state=explicit")
        try demand(bundle.config["batch"]?.double == 1, "the file must take one row of text: export it without --batch")
        let hasEncoder = signatures["encode"] != nil
        try demand(!hasEncoder, "the file begins with the states of an encoder, which this library cannot run")
        self.bundle = bundle
        self.signatures = signatures
        self.runner = runner
        vocabulary = words
        defaults = try KerasSeq.Settings.stored(bundle.config["sampling"]?.object ?? [:], words)
        stateNames = signatures["decode"]?.states ?? []
        prefillSteps = signatures["prefill"]?.inputs["tokens"]?.shape.last ?? 0
        try requireSignatures()
        firstStates = signatures["start"] == nil ? try zeros() : states(try runner.run("start", [:]))
    }

    private func signature(_ name: String) throws -> Signature {
        guard let found = signatures[name] else {
            throw KerasSeqError("the model must have the signature \(name): export it with keras-seq export")
        }
        return found
    }

    /// Requires each signature to have the inputs and outputs that are used, and to return the states that the next one takes.
    private func requireSignatures() throws {
        let number = TensorShape(isFloat: true, shape: [1])
        let integer = TensorShape(isFloat: false, shape: [1])
        let floats = TensorShape(isFloat: true, shape: [1, TextModel.block])
        let integers = TensorShape(isFloat: false, shape: [1, TextModel.block])
        let settings = ["temperature": number, "top_k": integer, "top_p": number, "min_p": number]
        let tokens = ["tokens": TensorShape(isFloat: false, shape: [1, prefillSteps]), "length": integer]
        let logits = ["logits": TensorShape(isFloat: true, shape: [1, vocabulary.count])]
        let names = stateNames.indices.map { "state_\($0)" }
        try demand(!names.isEmpty && stateNames == names, "the model is damaged: it has the states \(stateNames)")
        try demand(prefillSteps > 0, "the model is damaged: prefill takes no tokens")
        try requireTensors("decode", ["token": integer], logits)
        try requireTensors("prefill", tokens, logits)
        try requireTensors(
            "sample", settings.merging(["token": integer, "uniform": number]) { $1 },
            ["next_token": integer, "log_probability": number])
        if writes {
            try requireTensors(
                "write", settings.merging(["token": integer, "uniforms": floats, "length": integer]) { $1 },
                ["tokens": integers, "log_probabilities": floats, "count": integer])
        }
        if signatures["start"] != nil { try requireTensors("start", nil, [:]) }
    }

    private func requireTensors(_ name: String, _ inputs: [String: TensorShape]?, _ outputs: [String: TensorShape]) throws {
        let states = try signature("decode").inputs.filter { stateNames.contains($0.key) }
        let found = try signature(name)
        let takes = inputs.map { found.inputs == $0.merging(states) { $1 } } ?? true
        let returns = found.outputs == outputs.merging(states) { $1 }
        let expected = "inputs and outputs of \(name) for \(vocabulary.count) tokens"
        try demand(takes && returns, "the model must have \(expected): it is damaged, or of another version")
    }

    private func zeros() throws -> States {
        let inputs = try signature("decode").inputs
        return stateNames.map { [Float](repeating: 0, count: inputs[$0]!.shape.reduce(1, *)) }
    }

    private func states(_ outputs: [String: Tensor]) -> States { stateNames.map { outputs[$0]?.floats ?? [] } }

    /// Runs a signature from some states; returns its outputs and the states after it.
    func run(_ name: String, _ inputs: [String: Tensor], _ before: States) throws -> (outputs: [String: Tensor], states: States) {
        var given = inputs
        for (state, value) in zip(stateNames, before) { given[state] = .floats(value) }
        let outputs = try runner.run(name, given)
        return (outputs, states(outputs))
    }

    /// Returns the step after one token.
    func decode(_ token: Int, _ before: States) throws -> Step {
        step(try run("decode", ["token": .integers([Int32(token)])], before))
    }

    private func step(_ answer: (outputs: [String: Tensor], states: States)) -> Step {
        Step(logits: answer.outputs["logits"]?.floats ?? [], states: answer.states)
    }

    /// Returns the step after `tokens`, which are at least one.
    private func prefill(_ tokens: [Int], _ before: States) throws -> Step {
        var found = Step(logits: [], states: before)
        for start in stride(from: 0, to: tokens.count, by: prefillSteps) {
            let part = tokens[start..<min(start + prefillSteps, tokens.count)].map { Int32($0) }
            let padded = part + [Int32](repeating: 0, count: prefillSteps - part.count)
            let inputs: [String: Tensor] = ["tokens": .integers(padded), "length": .integers([Int32(part.count)])]
            found = step(try run("prefill", inputs, found.states))
        }
        return found
    }

    /// Returns the states after `<s>` and some tokens, of which there may be none at all.
    func statesAfter(_ context: [Int]) throws -> States {
        context.isEmpty ? firstStates : try prefill(context, firstStates).states
    }

    /// Returns the step after `<s>` and the tokens of a text; reads only what was not read by the last call.
    func read(_ tokens: [Int]) throws -> Step {
        lock.lock()
        defer { lock.unlock() }
        let all = [vocabulary.start] + tokens
        let known = lastRead.flatMap { all.starts(with: $0.tokens) ? $0 : nil }
        let rest = Array(all.dropFirst(known?.tokens.count ?? 0))
        if let known, rest.isEmpty { return known.step }
        let found = try prefill(rest, known?.step.states ?? firstStates)
        lastRead = (all, found)
        return found
    }

    /// Returns a writer of a continuation of a prompt.
    func write(_ prompt: String, _ options: KerasSeq.Options) throws -> KerasSeq.Writer {
        try KerasSeq.Writer(self, prompt, options)
    }

    /// Returns up to `count` words that may come next, or that complete the word which ends the text, the likeliest first.
    func suggest(_ text: String, count: Int = 3) throws -> [KerasSeq.Suggestion] {
        try demand(1...100 ~= count, "`count` must be from 1 to 100. Received: \(count)")
        if vocabulary.level != .char { return try suggestTokens(self, text.points, count) }
        var search = WordSearch(self)
        return try search.suggest(text.points, count)
    }

    /// Returns the log-probability in nats of each token of a text, given `<s>` and the tokens before it.
    func score(_ text: String) throws -> KerasSeq.Score {
        let tokens = try vocabulary.encode(text)
        var states = firstStates
        var last = vocabulary.start
        let logProbabilities = try tokens.enumerated().map { position, token in
            let step = try decode(last, states)
            states = step.states
            last = token
            let found = logSoftmax(step.logits)[token]
            try demand(!found.isNaN, "token \(position) cannot be scored: the model's logits are not finite")
            return found
        }
        return KerasSeq.Score(tokens: tokens, logProbabilities: logProbabilities)
    }
}

extension KerasSeq {
    /// The tokens of a text, and the log-probability of each in nats.
    public struct Score: Sendable {
        public let tokens: [Int]
        public let logProbabilities: [Double]
        public var logProbability: Double { logProbabilities.reduce(0, +) }
    }
}

/// Returns the logarithms of the softmax of some logits; of all, or of those for which `isAllowed` is true.
func logSoftmax(_ logits: [Float], _ isAllowed: (Int) -> Bool = { _ in true }) -> [Double] {
    let allowed = logits.indices.filter(isAllowed)
    let most = allowed.reduce(-Double.infinity) { $0.isNaN || Double(logits[$1]).isNaN ? .nan : max($0, Double(logits[$1])) }
    let total = most + log(allowed.reduce(0.0) { $0 + exp(Double(logits[$1]) - most) })
    return logits.map { Double($0) - total }
}
