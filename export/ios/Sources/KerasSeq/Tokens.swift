/// A text as code points. Swift's strings compare "é" and "e" with an accent as equal; tokens are different if their code
/// points are.
typealias Points = [UInt32]

extension String {
    var points: Points { unicodeScalars.map(\.value) }

    init(points: some Sequence<UInt32>) {
        var scalars = String.UnicodeScalarView()
        for point in points { scalars.append(UnicodeScalar(point) ?? "\u{FFFD}") }
        self.init(scalars)
    }
}

extension KerasSeq {
    /// What a token is; the list of tokens alone decides it.
    public enum Level: String, Sendable { case char, word, whitespace }
}

/// The classes of characters from which word tokens are made, as in keras_seq/data/tokens.py.
enum CharacterClass: Int { case word, space, punctuation, single }

/// Splits texts into tokens.
enum Tokens {
    // First and last code point of each range. What is in no range is part of a word.
    static let space: [UInt32] = [
        0x09, 0x0D, 0x1C, 0x20, 0x85, 0x85, 0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029,
        0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000,
    ]
    static let punctuation: [UInt32] = [
        0x21, 0x2F, 0x3A, 0x40, 0x5B, 0x60, 0x7B, 0x7E, 0xA1, 0xA9, 0xAB, 0xAC, 0xAE, 0xB1, 0xB4, 0xB4,
        0xB6, 0xB8, 0xBB, 0xBB, 0xBF, 0xBF, 0xD7, 0xD7, 0xF7, 0xF7, 0x37E, 0x37E, 0x387, 0x387,
        0x55A, 0x55F, 0x589, 0x58A, 0x5BE, 0x5BE, 0x5C0, 0x5C0, 0x5C3, 0x5C3, 0x5C6, 0x5C6, 0x5F3, 0x5F4,
        0x60C, 0x60C, 0x61B, 0x61B, 0x61E, 0x61F, 0x66A, 0x66D, 0x6D4, 0x6D4, 0x964, 0x965, 0x970, 0x970,
        0x1361, 0x1368, 0x2010, 0x2027, 0x2030, 0x205E, 0x20A0, 0x20CF, 0x2100, 0x214F, 0x2190, 0x2BFF,
        0x2E00, 0x2E7F, 0x3001, 0x3004, 0x3008, 0x3020, 0x3030, 0x3030, 0xFE10, 0xFE1F, 0xFE30, 0xFE6F,
        0xFF01, 0xFF0F, 0xFF1A, 0xFF20, 0xFF3B, 0xFF40, 0xFF5B, 0xFF65, 0xFFE0, 0xFFEE, 0x1F000, 0x1FAFF,
    ]

    // Scripts without spaces between words: every character is a token.
    static let single: [UInt32] = [
        0xE01, 0xEFF, 0x1000, 0x109F, 0x1780, 0x17FF, 0x2E80, 0x2FFF, 0x3005, 0x3007, 0x3021, 0x302F,
        0x3031, 0x312F, 0x3190, 0x4DBF, 0x4E00, 0x9FFF, 0xF900, 0xFAFF, 0xFF66, 0xFF9F,
        0x1AFF0, 0x1B16F, 0x20000, 0x3FFFF,
    ]

    /// Returns the class of a character.
    static func classOf(_ point: UInt32) -> CharacterClass {
        if isIn(single, point) { return .single }
        if isIn(space, point) { return .space }
        if isIn(punctuation, point) { return .punctuation }
        return .word
    }

    private static func isIn(_ ranges: [UInt32], _ point: UInt32) -> Bool {
        for index in stride(from: 0, to: ranges.count, by: 2) where ranges[index] <= point && point <= ranges[index + 1] {
            return true
        }
        return false
    }

    static func isApostrophe(_ point: UInt32) -> Bool { point == 0x27 || point == 0x2019 }

    /// White space as `tf.strings.split` means it.
    static func isWhite(_ point: UInt32) -> Bool { 0x09...0x0D ~= point || point == 0x20 }

    static func endsWithWhiteSpace(_ text: Points) -> Bool { text.last.map(isWhite) ?? false }

    /// Returns the class of the character at an index; nil at the end.
    private static func classAt(_ points: Points, _ index: Int) -> CharacterClass? {
        index < points.count ? classOf(points[index]) : nil
    }

    /// Returns the index after the word token at `start`, which is a match of `WORD_PATTERN` in keras_seq/data/tokens.py.
    static func endOfWordToken(_ points: Points, _ start: Int) -> Int {
        let first = points[start] == 0x20 ? start + 1 : start // at most one space belongs to a token
        let kind = classAt(points, first)
        if kind == .punctuation || kind == .single { return first + 1 }
        if kind != .word { return start + 1 } // one character of white space
        var end = endOfRun(points, first)
        while end < points.count, isApostrophe(points[end]) {
            let next = endOfRun(points, end + 1)
            if next == end + 1 { break }
            end = next
        }
        return end
    }

    private static func endOfRun(_ points: Points, _ start: Int) -> Int {
        var end = start
        while classAt(points, end) == .word { end += 1 }
        return end
    }

    /// Splits a text into tokens; at the levels `char` and `word` their concatenation is the text.
    static func split(_ points: Points, _ level: KerasSeq.Level) -> [Points] {
        var tokens: [Points] = []
        var start = 0
        while start < points.count {
            let end: Int
            switch level {
            case .char: end = start + 1
            case .word: end = endOfWordToken(points, start)
            case .whitespace: end = endOfWord(points, start)
            }
            if end > start { tokens.append(Points(points[start..<end])) }
            start = end > start ? end : start + 1 // white space between two words
        }
        return tokens
    }

    private static func endOfWord(_ points: Points, _ start: Int) -> Int {
        var end = start
        while end < points.count, !isWhite(points[end]) { end += 1 }
        return end
    }

    /// Returns the name of a character, such as U+0009.
    static func name(_ point: UInt32) -> String {
        let digits = String(point, radix: 16, uppercase: true)
        return "U+" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
