extension KerasSeq {
    /// The tokens of a model; the id of a token is its index. By the same rules as keras_seq/data/vocabulary.py.
    public final class Vocabulary: Sendable {
        let tokens: [Points]
        let pad: Int // -1: there is none
        let start: Int
        let eos: Int
        let unknown: Int
        public let level: Level
        private let ids: [Points: Int] // of the tokens that a text may have

        public var count: Int { tokens.count }

        init(_ tokens: [Points]) throws {
            self.tokens = tokens
            var first: [Points: Int] = [:]
            for (id, token) in tokens.enumerated() where first[token] == nil { first[token] = id }
            func idOf(_ name: String) -> Int { first[name.points] ?? -1 }
            pad = idOf("<pad>")
            start = idOf("<s>")
            eos = idOf("<eos>")
            unknown = idOf("[UNK]") >= 0 ? idOf("[UNK]") : idOf("<unk>")
            let reserved = Set([pad, start, eos, unknown]).subtracting([-1])
            level = Vocabulary.levelOf(tokens, reserved)
            try Vocabulary.requireTokens(tokens, first, level, reserved)
            for id in [pad, start, eos] + (level == .char ? [unknown] : []) where id >= 0 { first[tokens[id]] = nil }
            ids = first
        }

        func isReserved(_ id: Int) -> Bool { id == pad || id == start || id == eos || id == unknown }

        /// Whether a token is never suggested or drawn: it has no text, or stands for many.
        func isForbidden(_ id: Int) -> Bool { isReserved(id) && id != eos }

        private static func beginsWith(_ tokens: [Points], _ names: [String]) -> Bool { tokens.starts(with: names.map(\.points)) }

        private static func levelOf(_ tokens: [Points], _ reserved: Set<Int>) -> Level {
            if beginsWith(tokens, ["<pad>", "<unk>", "<s>", "<eos>"]) { return .word }
            if beginsWith(tokens, ["<pad>", "<s>", "<eos>"]) { return .char }
            let areCharacters = tokens.indices.allSatisfy { reserved.contains($0) || tokens[$0].count == 1 }
            return areCharacters ? .char : .whitespace
        }

        private static func requireTokens(_ tokens: [Points], _ first: [Points: Int], _ level: Level, _ reserved: Set<Int>) throws {
            for (id, token) in tokens.enumerated() {
                let isMarked = id == 0 && token.count > 1 && token[0] == 0xFEFF
                let isRight = first[token] == id && !isMarked && (reserved.contains(id) || isValid(token, level))
                try demand(isRight, "the vocabulary is damaged: line \(id + 1) is not a new token of its level")
            }
            let isEmpty = reserved.count == tokens.count && !beginsWith(tokens, ["<pad>", "<s>", "<eos>"]) && level != .word
            try demand(!isEmpty, "the vocabulary is damaged: it has only reserved tokens")
        }

        private static func isValid(_ token: Points, _ level: Level) -> Bool {
            if token.isEmpty { return false }
            switch level {
            case .char: return token.count == 1
            case .word: return Tokens.endOfWordToken(token, 0) == token.count
            case .whitespace: return !token.contains(where: Tokens.isWhite)
            }
        }

        /// Requires the tokens without which no text can be written.
        func requireReserved() throws {
            for (name, id) in [("<pad>", pad), ("<s>", start), ("<eos>", eos)] {
                try demand(id >= 0, "the vocabulary must have \(name) to write text: add it with keras_seq.add_reserved_tokens")
            }
        }

        /// Returns the ids of a text. Where there is no unknown token, what is not in the vocabulary is an error.
        public func encode(_ text: String) throws -> [Int] { try encode(Tokens.split(text.points, level)) }

        func encode(_ words: [Points]) throws -> [Int] {
            var seen: Set<Points> = []
            let foreign = words.filter { isForeign($0) && seen.insert($0).inserted }
            let named = foreign.prefix(10).map {
                "'\(String(points: $0))'" + (level == .char ? " (\(Tokens.name($0[0])))" : "")
            }.joined(separator: ", ")
            let kind = level == .char ? "characters" : "words"
            let more = foreign.count > 10 ? " and \(foreign.count - 10) more" : ""
            try demand(foreign.isEmpty, "the text must hold only \(kind) of the vocabulary. Received: \(named)\(more)")
            return words.map { ids[$0] ?? unknown }
        }

        /// Split at white space, a text can have a word that is spelled like a reserved token. It is not that token.
        private func isForeign(_ word: Points) -> Bool {
            if ids[word] != nil { return false }
            let isSilent = level == .whitespace && [pad, start, eos].contains { $0 >= 0 && tokens[$0] == word }
            return unknown < 0 || isSilent
        }

        /// Returns the text of ids that continue a text: reserved tokens except the unknown one add nothing.
        public func decode(_ ids: [Int], after: String = "") throws -> String {
            let followsWhiteSpace = after.isEmpty || Tokens.endsWithWhiteSpace(after.points)
            var result: Points = []
            for id in ids {
                try demand(tokens.indices.contains(id), "a token must be from 0 to \(count - 1). Received: \(id)")
                result += piece(id, isFirst: result.isEmpty && followsWhiteSpace)
            }
            return String(points: result)
        }

        /// Returns the text that a token adds; no space goes before it if it is the first or follows white space.
        func piece(_ id: Int, isFirst: Bool) -> Points {
            if id == pad || id == start || id == eos { return [] }
            return level == .whitespace && !isFirst ? [0x20] + tokens[id] : tokens[id]
        }

        /// Returns the vocabulary of a vocab.txt.
        static func parse(_ file: [UInt8]) throws -> Vocabulary {
            let points = try utf8(file, "vocab.txt").points
            try demand(points.last == 0x0A, "the vocabulary is damaged: it must end in a line feed")
            let lines = points.dropLast().split(separator: 0x0A, omittingEmptySubsequences: false)
            return try Vocabulary(lines.enumerated().map { try unescape($0.offset, $0.element) })
        }

        private static func unescape(_ number: Int, _ line: ArraySlice<UInt32>) throws -> Points {
            var result: Points = []
            var rest = line
            while let point = rest.popFirst() {
                var isRight = point != 0x0D
                if point != 0x5C {
                    result.append(point)
                } else if rest.first == 0x6E {
                    result.append(0x0A)
                    rest.removeFirst()
                } else if rest.first == 0x72 {
                    result.append(0x0D)
                    rest.removeFirst()
                } else if rest.starts(with: "x5c".points) {
                    result.append(0x5C)
                    rest.removeFirst(3)
                } else {
                    isRight = false
                }
                try demand(isRight, "the vocabulary is damaged: line \(number + 1) has a wrong escape")
            }
            return result
        }

        static func utf8(_ bytes: [UInt8], _ name: String) throws -> String {
            guard let text = String(validating: bytes) else { throw KerasSeqError("\(name) must be UTF-8") }
            return text
        }
    }
}

extension String {
    /// Returns the text of bytes in UTF-8; nil if they are not.
    fileprivate init?(validating bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self) // replaces what is not UTF-8
        guard text.utf8.elementsEqual(bytes) else { return nil }
        self = text
    }
}
