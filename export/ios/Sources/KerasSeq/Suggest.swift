import Foundation

extension KerasSeq {
    /// A word that may come next, or that completes the one which has been begun.
    public struct Suggestion: Sendable {
        /// The whole word, for a button.
        public let text: String
        /// What is to be appended to the text.
        public let insert: String
        /// The probability given all that is typed.
        public let probability: Double
    }
}

/// Suggests tokens: at the levels `word` and `whitespace` one look at the logits is enough.
func suggestTokens(_ model: TextModel, _ text: Points, _ count: Int) throws -> [KerasSeq.Suggestion] {
    let vocabulary = model.vocabulary
    let (context, begun) = beginning(text, vocabulary.level)
    let logits = try model.read(vocabulary.encode(context)).logits
    let matching = vocabulary.tokens.indices.filter { id in
        id == vocabulary.eos ? begun.isEmpty : !vocabulary.isForbidden(id) && vocabulary.tokens[id].starts(with: begun)
    }
    try requireNumbers(logits)
    if matching.isEmpty { return [] }
    let most = Double(matching.map { logits[$0] }.max()!)
    let sum = matching.reduce(0.0) { $0 + exp(Double(logits[$1]) - most) }
    var found: [KerasSeq.Suggestion] = []
    for id in likeliest(matching.filter { isCandidate(vocabulary, $0, begun) }, logits) where found.count < count {
        let token = vocabulary.tokens[id]
        let word = String(points: withoutSpace(token))
        if found.contains(where: { $0.text.points == word.points }) { continue } // with a space before it and without
        let probability = exp(Double(logits[id]) - most) / sum
        if !(probability > 0) { continue } // impossible; NaN if all are
        let insert = String(points: token.dropFirst(begun.count))
        found.append(.init(text: word, insert: insert, probability: probability))
    }
    return found
}

/// Returns ids in the order of their logits, the largest first; the lower id is first on a tie.
private func likeliest(_ ids: [Int], _ logits: [Float]) -> [Int] {
    ids.sorted { logits[$0] > logits[$1] || logits[$0] == logits[$1] && $0 < $1 }
}

private func withoutSpace(_ word: Points) -> Points { word.first == 0x20 ? Points(word.dropFirst()) : word }

/// Returns the tokens before the word that has been begun at the end of a text, and that word.
private func beginning(_ text: Points, _ level: KerasSeq.Level) -> ([Points], Points) {
    let tokens = Tokens.split(text, level)
    guard let last = tokens.last else { return (tokens, []) }
    if level == .whitespace { return Tokens.endsWithWhiteSpace(text) ? (tokens, []) : (Array(tokens.dropLast()), last) }
    if last == [0x20] || wordClass(last) == .word { return (Array(tokens.dropLast()), last) }
    if tokens.count > 1, last == [0x27] || last == [0x2019], wordClass(tokens[tokens.count - 2]) == .word {
        return (Array(tokens.dropLast(2)), tokens[tokens.count - 2] + last)
    }
    return (tokens, [])
}

/// Returns the class of the first character of a word token, after the space that it may begin with.
private func wordClass(_ token: Points) -> CharacterClass {
    Tokens.classOf(token[token[0] == 0x20 && token.count > 1 ? 1 : 0])
}

private func isCandidate(_ vocabulary: KerasSeq.Vocabulary, _ id: Int, _ begun: Points) -> Bool {
    let token = vocabulary.tokens[id]
    if vocabulary.isReserved(id) || token.count <= begun.count { return false }
    return vocabulary.level == .whitespace || [.word, .single].contains(wordClass(token))
}

private func requireNumbers(_ logits: [Float]) throws {
    let areNumbers = !logits.contains(where: \.isNaN) && (logits.max() ?? .nan).isFinite
    try demand(areNumbers, "no word can be suggested: the model's logits must be numbers, not NaN, and the largest finite")
}

/// Suggests words of characters: a search for the likeliest, which reads one character at a time.
struct WordSearch {
    /// Where a word stands: what may follow depends on this alone.
    private enum Place { case open, spaced, inside, joined, complete }

    /// A beginning of a word. `before` are the states before its last character, which are nil at the root.
    private struct Node {
        let logProbability: Double
        let order: Int
        let insert: Points
        let place: Place
        let before: States?
    }

    private static let mostCalls = 64 // of `decode`
    private static let mostChildren = 32 // of a node
    private static let longest = 32 // characters of an insert

    private let model: TextModel
    private let vocabulary: KerasSeq.Vocabulary
    private let points: [UInt32?] // the character of each token; nil if it is reserved
    private var queue: [Node] = [] // sorted; the best is last
    private var created = 0

    init(_ model: TextModel) {
        self.model = model
        vocabulary = model.vocabulary
        let words = model.vocabulary
        points = words.tokens.indices.map { words.isReserved($0) ? nil : words.tokens[$0][0] }
    }

    mutating func suggest(_ text: Points, _ count: Int) throws -> [KerasSeq.Suggestion] {
        let step = try model.read(vocabulary.encode(String(points: text)))
        let begun = beginningOf(text)
        add(0, [], startOf(text, begun), nil)
        var found: [KerasSeq.Suggestion] = []
        var words: Set<Points> = []
        var calls = 0
        while found.count < count, let node = queue.popLast() {
            if node.place == .complete {
                let word = withoutSpace(begun + node.insert)
                if words.insert(word).inserted {
                    let insert = String(points: node.insert)
                    found.append(.init(text: String(points: word), insert: insert, probability: exp(node.logProbability)))
                }
            } else if let before = node.before {
                if calls == WordSearch.mostCalls { continue }
                calls += 1
                try expand(node, try model.decode(points.firstIndex(of: node.insert.last!)!, before))
            } else {
                try expand(node, step)
            }
        }
        return found
    }

    private mutating func add(_ logProbability: Double, _ insert: Points, _ place: Place, _ before: States?) {
        if !(logProbability > -.infinity) { return } // NaN too
        let node = Node(logProbability: logProbability, order: created, insert: insert, place: place, before: before)
        created += 1
        // The earlier created is the better on a tie: it lies after this one.
        var low = 0
        var high = queue.count
        while low < high {
            let middle = (low + high) / 2
            if queue[middle].logProbability < logProbability { low = middle + 1 } else { high = middle }
        }
        queue.insert(node, at: low)
    }

    /// Returns the longest end of a text that is words joined by apostrophes, and perhaps one more apostrophe.
    private func beginningOf(_ typed: Points) -> Points {
        var start = typed.count
        while start > 0 {
            let isWord = Tokens.classOf(typed[start - 1]) == .word
            let joins = Tokens.isApostrophe(typed[start - 1]) && start > 1 && Tokens.classOf(typed[start - 2]) == .word
            if !isWord && !joins { break }
            start -= 1
        }
        return Points(typed[start...])
    }

    private func startOf(_ typed: Points, _ begun: Points) -> Place {
        if let last = begun.last { return Tokens.isApostrophe(last) ? .joined : .inside }
        if let last = typed.last, Tokens.classOf(last) != .space { return .open }
        return .spaced
    }

    /// Returns the place after a character; nil if it cannot follow.
    private func follow(_ place: Place, _ point: UInt32?) -> Place? {
        guard let point else { return nil }
        let kind = Tokens.classOf(point)
        let isBetweenWords = place == .open || place == .spaced
        if kind == .word { return .inside }
        if kind == .single && isBetweenWords { return .complete }
        if point == 0x20 && place == .open { return .spaced }
        if Tokens.isApostrophe(point) && place == .inside { return .joined }
        return nil
    }

    private func endsWord(_ id: Int) -> Bool {
        if vocabulary.isForbidden(id) { return false }
        guard let point = points[id] else { return true }
        return Tokens.classOf(point) != .word && !Tokens.isApostrophe(point)
    }

    /// Adds the word that ends here, and the likeliest nodes that are one character longer.
    private mutating func expand(_ node: Node, _ step: Step) throws {
        try requireNumbers(step.logits)
        let logProbabilities = logSoftmax(step.logits) { !vocabulary.isForbidden($0) }
        if node.place == .inside && !node.insert.isEmpty {
            let ends = points.indices.filter(endsWord).reduce(0.0) { $0 + exp(logProbabilities[$1]) }
            add(node.logProbability + log(ends), node.insert, .complete, nil)
        }
        if node.insert.count >= WordSearch.longest { return }
        let following = points.indices.filter { follow(node.place, points[$0]) != nil }
        for id in likeliest(following, step.logits).prefix(WordSearch.mostChildren) {
            let place = follow(node.place, points[id])!
            add(node.logProbability + logProbabilities[id], node.insert + [points[id]!], place, step.states)
        }
    }
}
