import Foundation

extension KerasSeq {
    /// How a token is drawn.
    public struct Settings: Equatable, Sendable {
        public let temperature: Float
        public let topK: Int
        public let topP: Float
        public let minP: Float

        public init(temperature: Float = 1, topK: Int = 0, topP: Float = 1, minP: Float = 0) throws {
            try Settings.requireRanges(temperature, topK, topP, minP)
            self.temperature = temperature
            self.topK = topK
            self.topP = topP
            self.minP = minP
        }

        private static func requireRanges<Number: BinaryFloatingPoint>(
            _ temperature: Number, _ topK: some Comparable & ExpressibleByIntegerLiteral, _ topP: Number, _ minP: Number
        ) throws {
            try demand(0...1e6 ~= temperature, "`temperature` must be from 0 (the likeliest token) to 1e6. Received: \(temperature)")
            try demand(topK >= 0, "`topK` must be 0 (off) or a positive number. Received: \(topK)")
            try demand(topP > 0 && topP <= 1, "`topP` must be above 0 and at most 1 (off). Received: \(topP)")
            try demand(0...1 ~= minP, "`minP` must be from 0 (off) to 1. Received: \(minP)")
        }

        private static let names: Set<String> = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "allow_unk", "bias"]
        private static let damaged = "the file has damaged sampling defaults"

        /// Returns the settings that a file stores; refuses those that its signatures do not apply.
        static func stored(_ sampling: [String: Json], _ vocabulary: Vocabulary) throws -> Settings {
            try demand(names.isSuperset(of: sampling.keys), damaged)
            var allowsUnknown = false
            if let stated = sampling["allow_unk"] {
                guard case .boolean(let value) = stated else { throw KerasSeqError(damaged) }
                allowsUnknown = value
            }
            guard let bias = (sampling["bias"] ?? .object([:])).object else { throw KerasSeqError(damaged) }
            for (token, value) in bias {
                let id = vocabulary.tokens.firstIndex(of: token.points) ?? -1
                let isDrawn = id >= 0 && (!vocabulary.isForbidden(id) || id == vocabulary.unknown && allowsUnknown)
                let added = try number(value)
                try demand(isDrawn && abs(added) <= 1e30, damaged)
            }
            let penalty = try number(sampling["repetition_penalty"] ?? .integer(1))
            try demand(penalty == 1, "the file must have no repetition_penalty, which its signatures do not apply")
            let topK = sampling["top_k"] ?? .integer(0)
            try demand(topK.isInteger, damaged)
            let temperature = try number(sampling["temperature"] ?? .integer(1))
            let most = try number(topK)
            let topP = try number(sampling["top_p"] ?? .integer(1))
            let minP = try number(sampling["min_p"] ?? .integer(0))
            try requireRanges(temperature, most, topP, minP) // before they are rounded to float32
            return try Settings(
                temperature: Float(temperature), topK: Int(min(most, Double(Int32.max))),
                topP: max(Float(topP), .leastNonzeroMagnitude), minP: Float(minP))
        }

        private static func number(_ value: Json) throws -> Double {
            guard let number = value.double else { throw KerasSeqError(damaged) }
            return number
        }
    }

    /// What to write. Settings that are nil are those stored in the file; a seed that is nil is a random one.
    public struct Options: Sendable {
        public var maxTokens: Int
        public var temperature: Float?
        public var topK: Int?
        public var topP: Float?
        public var minP: Float?
        public var seed: UInt64?
        public var stop: [String]

        public init(
            maxTokens: Int = 200, temperature: Float? = nil, topK: Int? = nil, topP: Float? = nil, minP: Float? = nil,
            seed: UInt64? = nil, stop: [String] = []
        ) {
            self.maxTokens = maxTokens
            self.temperature = temperature
            self.topK = topK
            self.topP = topP
            self.minP = minP
            self.seed = seed
            self.stop = stop
        }
    }

    /// The text of one token.
    public struct Piece: Sendable {
        public let text: String
        public let token: Int
        public let logProbability: Float
    }

    /// Writes a continuation of a prompt, piece by piece. The seed and a token's position alone decide its draw.
    ///
    /// One thread at a time may use a writer. `change` may be called between two pieces; the change takes effect from the next
    /// token that is drawn.
    public final class Writer {
        /// The seed, which repeats this text.
        public let seed: UInt64

        /// "eos", "stop" or "length" when the text has ended; otherwise nil.
        public private(set) var finishReason: String?

        /// How the next token is drawn.
        public private(set) var settings: Settings

        /// A piece whose text is still code points.
        private struct Drawn {
            let text: Points
            let token: Int
            let logProbability: Float
        }

        /// Tokens that were drawn together, and the states that the last draw returned.
        private struct Block {
            var tokens: [Int] = []
            var logProbabilities: [Float] = []
            var after: States = []
        }

        private let model: TextModel
        private let vocabulary: Vocabulary
        private let stops: [Points]
        private let maxTokens: Int
        private let followsWhiteSpace: Bool
        private var position = 0 // of the next token
        private var held: Points = [] // the text of `holding`
        private var holding: [Drawn] = [] // pieces that may belong to a stop string
        private var ready: [Drawn] = [] // pieces that do not
        private var block = Block()
        private var used = 0 // tokens of the block that were taken
        private var token: Int // the last one before the block
        private var states: States // the states before the model reads `token`
        private var singly = 0 // tokens that are to be drawn one by one

        init(_ model: TextModel, _ prompt: String, _ options: Options) throws {
            self.model = model
            vocabulary = model.vocabulary
            seed = options.seed ?? UInt64.random(in: 0...UInt64(Int64.max))
            settings = try Settings(
                temperature: options.temperature ?? model.defaults.temperature, topK: options.topK ?? model.defaults.topK,
                topP: options.topP ?? model.defaults.topP, minP: options.minP ?? model.defaults.minP)
            maxTokens = options.maxTokens
            try demand(maxTokens >= 1, "`maxTokens` must be at least 1. Received: \(maxTokens)")
            stops = options.stop.map(\.points)
            try demand(!stops.contains([]), "`stop` must have strings of at least one character")
            let before = prompt.points
            followsWhiteSpace = before.isEmpty || Tokens.endsWithWhiteSpace(before)
            let context = [vocabulary.start] + (try vocabulary.encode(prompt))
            token = context.last!
            states = try model.statesAfter(Array(context.dropLast()))
        }

        /// Changes how the next token is drawn. What is left out stays as it is.
        public func change(temperature: Float? = nil, topK: Int? = nil, topP: Float? = nil, minP: Float? = nil) throws {
            let new = try Settings(
                temperature: temperature ?? settings.temperature, topK: topK ?? settings.topK, topP: topP ?? settings.topP,
                minP: minP ?? settings.minP)
            if new != settings && finishReason == nil { try rewind() } // with the settings with which the tokens were drawn
            settings = new
        }

        /// Returns the next piece; nil when the text has ended.
        public func next() throws -> Piece? {
            while ready.isEmpty && finishReason == nil { try draw() }
            if ready.isEmpty { return nil }
            let piece = ready.removeFirst()
            return Piece(text: String(points: piece.text), token: piece.token, logProbability: piece.logProbability)
        }

        /// Takes the next token; moves pieces that cannot belong to a stop string to those that are ready.
        private func draw() throws {
            if position == maxTokens { return finish("length") }
            if used == block.tokens.count { try fill() }
            let drawn = block.tokens[used]
            let logProbability = block.logProbabilities[used]
            used += 1
            position += 1
            if drawn == vocabulary.eos { return finish("eos") }
            let text = vocabulary.piece(drawn, isFirst: position == 1 && followsWhiteSpace)
            let piece = Drawn(text: text, token: drawn, logProbability: logProbability)
            if stops.isEmpty { ready.append(piece) } else { hold(piece) }
        }

        private func hold(_ piece: Drawn) {
            holding.append(piece)
            held += piece.text
            let stop = StopStrings.find(held, stops)
            if stop >= 0 {
                cut(stop)
                return finish("stop")
            }
            var safe = held.count - StopStrings.unfinished(held, stops)
            while let first = holding.first, first.text.count <= safe {
                holding.removeFirst()
                held.removeFirst(first.text.count)
                safe -= first.text.count
                ready.append(first)
            }
        }

        /// Keeps the pieces of the first `length` characters that are held; the last of them is cut if necessary.
        private func cut(_ length: Int) {
            var rest = length
            while rest > 0 {
                let piece = holding.removeFirst()
                ready.append(Drawn(text: Points(piece.text.prefix(rest)), token: piece.token, logProbability: piece.logProbability))
                rest -= piece.text.count
            }
            holding = []
        }

        private func finish(_ reason: String) {
            finishReason = reason
            ready += holding
            holding = []
        }

        /// Draws the next tokens, as many as one call can.
        private func fill() throws {
            if used > 0 {
                token = block.tokens.last!
                states = block.after
                block = Block() // before the draw, which may fail
                used = 0
            }
            if singly == 0 && model.writes {
                let length = min(TextModel.block, maxTokens - position)
                if let written = try write(length) {
                    block = written
                    return
                }
                singly = length // so that the tokens before the bad one are delivered, and the error names that one
            }
            block = try sample()
            if singly > 0 { singly -= 1 }
        }

        /// Goes back to the states after the tokens that were taken, so that the others can be drawn again.
        private func rewind() throws {
            if used == block.tokens.count { return }
            if used > 0 {
                guard let again = try write(used) else {
                    throw KerasSeqError("the model is damaged: `write` does not repeat what it wrote")
                }
                states = again.after
                token = block.tokens[used - 1]
            }
            block = Block()
            used = 0
            singly = 0
        }

        private func settingsInputs() -> [String: Tensor] {
            [
                "temperature": .floats([settings.temperature]),
                "top_k": .integers([Int32(min(settings.topK, vocabulary.count))]),
                "top_p": .floats([settings.topP]),
                "min_p": .floats([settings.minP]),
                "token": .integers([Int32(token)]),
            ]
        }

        private func uniform(_ position: Int) -> Float {
            Threefry.uniform(seed: seed, position: UInt32(truncatingIfNeeded: position))
        }

        /// Draws up to `length` tokens in one call; returns nil if the runtime fails, or a token cannot be drawn.
        private func write(_ length: Int) throws -> Block? {
            let first = position - used // the position of the block's first token
            var inputs = settingsInputs()
            inputs["uniforms"] = .floats((0..<TextModel.block).map { $0 < length ? uniform(first + $0) : 0 })
            inputs["length"] = .integers([Int32(length)])
            let outputs: [String: Tensor]
            let after: States
            do {
                (outputs, after) = try model.run("write", inputs, states)
            } catch let error as KerasSeqError where error.isFromRuntime {
                return nil
            }
            let count = Int(outputs["count"]?.integers.first ?? 0)
            try demand(1...length ~= count, "the model is damaged: `write` returned \(count) tokens of \(length)")
            let tokens = (outputs["tokens"]?.integers ?? []).prefix(count).map { Int($0) }
            let logProbabilities = Array((outputs["log_probabilities"]?.floats ?? []).prefix(count))
            if !logProbabilities.allSatisfy(\.isFinite) { return nil }
            try tokens.forEach(requireToken)
            return Block(tokens: tokens, logProbabilities: logProbabilities, after: after)
        }

        /// Draws one token.
        private func sample() throws -> Block {
            var inputs = settingsInputs()
            inputs["uniform"] = .floats([uniform(position)])
            let outputs: [String: Tensor]
            let after: States
            do {
                (outputs, after) = try model.run("sample", inputs, states)
            } catch let error as KerasSeqError where error.isFromRuntime {
                // LiteRT ends in an error, too, if the logits are not finite.
                try demand(try model.decode(token, states).logits.allSatisfy(\.isFinite), notFinite())
                throw error
            }
            let logProbability = outputs["log_probability"]?.floats.first ?? .nan
            try demand(logProbability.isFinite, notFinite())
            let drawn = Int(outputs["next_token"]?.integers.first ?? -1)
            try requireToken(drawn)
            return Block(tokens: [drawn], logProbabilities: [logProbability], after: after)
        }

        private func notFinite() -> String { "token \(position) cannot be sampled: the model's logits are not finite" }

        private func requireToken(_ drawn: Int) throws {
            let isToken = vocabulary.tokens.indices.contains(drawn)
            try demand(isToken, "the model is damaged: it returned token \(drawn) of \(vocabulary.count)")
        }
    }
}
