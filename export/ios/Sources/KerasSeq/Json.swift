import Foundation

/// A value of JSON. `large` is an integer of more than 64 bits, maybe infinite.
indirect enum Json {
    case null
    case boolean(Bool)
    case integer(Int64)
    case large(Double)
    case number(Double)
    case string(String)
    case list([Json])
    case object([String: Json])

    var isInteger: Bool {
        switch self {
        case .integer, .large: return true
        default: return false
        }
    }

    var string: String? { if case .string(let value) = self { return value } else { return nil } }
    var list: [Json]? { if case .list(let value) = self { return value } else { return nil } }
    var object: [String: Json]? { if case .object(let value) = self { return value } else { return nil } }
    var isNull: Bool { if case .null = self { return true } else { return false } }

    var double: Double? {
        switch self {
        case .integer(let value): return Double(value)
        case .large(let value), .number(let value): return value
        default: return nil
        }
    }

    /// The value in Swift's types; nil is null.
    var value: Any? {
        switch self {
        case .null: return nil
        case .boolean(let value): return value
        case .integer(let value): return Int(value)
        case .large(let value), .number(let value): return value
        case .string(let value): return value
        case .list(let values): return values.map(\.value)
        case .object(let values): return values.mapValues(\.value)
        }
    }

    /// Returns the value of a JSON text in UTF-8.
    static func parse(_ bytes: [UInt8]) throws -> Json {
        var reader = JsonReader(bytes)
        let value = try reader.value(0)
        reader.skipSpace()
        try demand(reader.position == reader.bytes.count, "it is not valid JSON: there is more after the value")
        return value
    }
}

/// Reads JSON, more strictly than Foundation does.
struct JsonReader {
    static let deepest = 20 // objects and lists inside each other
    static let names: [(String, Json)] = [("true", .boolean(true)), ("false", .boolean(false)), ("null", .null)]

    let bytes: [UInt8]
    var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
    }

    private func failure() -> KerasSeqError { KerasSeqError("it is not valid JSON at byte \(position)") }

    private func peek() throws -> UInt8 {
        guard position < bytes.count else { throw failure() }
        return bytes[position]
    }

    mutating func skipSpace() {
        while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
    }

    private mutating func expect(_ wanted: Character) throws {
        if try peek() != wanted.asciiValue! { throw failure() }
        position += 1
    }

    mutating func value(_ depth: Int) throws -> Json {
        try demand(depth <= JsonReader.deepest, "it is nested too deeply")
        skipSpace()
        switch Character(UnicodeScalar(try peek())) {
        case "{": return .object(try object(depth))
        case "[": return .list(try list(depth))
        case "\"": return .string(try string())
        default: return try nameOrNumber()
        }
    }

    private mutating func object(_ depth: Int) throws -> [String: Json] {
        var values: [String: Json] = [:]
        position += 1
        skipSpace()
        if try peek() == UInt8(ascii: "}") {
            position += 1
            return values
        }
        while true {
            skipSpace()
            let name = try string()
            skipSpace()
            try expect(":")
            values[name] = try value(depth + 1)
            skipSpace()
            if try peek() == UInt8(ascii: "}") { break }
            try expect(",")
        }
        position += 1
        return values
    }

    private mutating func list(_ depth: Int) throws -> [Json] {
        var values: [Json] = []
        position += 1
        skipSpace()
        if try peek() == UInt8(ascii: "]") {
            position += 1
            return values
        }
        while true {
            values.append(try value(depth + 1))
            skipSpace()
            if try peek() == UInt8(ascii: "]") { break }
            try expect(",")
        }
        position += 1
        return values
    }

    private mutating func string() throws -> String {
        try expect("\"")
        var units: [UInt8] = []
        while try peek() != UInt8(ascii: "\"") {
            let byte = bytes[position]
            position += 1
            if byte < 0x20 { throw failure() }
            if byte == UInt8(ascii: "\\") {
                units.append(contentsOf: try escaped().utf8)
            } else {
                units.append(byte)
            }
        }
        position += 1
        return String(decoding: units, as: UTF8.self) // the bytes were checked before
    }

    private mutating func escaped() throws -> String {
        let byte = try peek()
        position += 1
        switch Character(UnicodeScalar(byte)) {
        case "\"", "\\", "/": return String(UnicodeScalar(byte))
        case "b": return "\u{8}"
        case "f": return "\u{C}"
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "u": return try character()
        default: throw failure()
        }
    }

    /// Returns the character of one escape, or of two that are the halves of one character.
    private mutating func character() throws -> String {
        let first = try codeUnit()
        let isPair = 0xD800...0xDBFF ~= first && position + 1 < bytes.count && bytes[position] == UInt8(ascii: "\\")
            && bytes[position + 1] == UInt8(ascii: "u")
        if isPair {
            let start = position
            position += 2
            let second = try codeUnit()
            if 0xDC00...0xDFFF ~= second { return String(decoding: [first, second], as: UTF16.self) }
            position = start
        }
        return String(decoding: [first], as: UTF16.self) // half of a character becomes U+FFFD
    }

    private mutating func codeUnit() throws -> UInt16 {
        guard position + 4 <= bytes.count else { throw failure() }
        let digits = String(decoding: bytes[position..<position + 4], as: UTF8.self)
        guard digits.utf8.allSatisfy({ isxdigit(Int32($0)) != 0 }), let unit = UInt16(digits, radix: 16) else { throw failure() }
        position += 4
        return unit
    }

    private mutating func nameOrNumber() throws -> Json {
        for (name, value) in JsonReader.names where bytes[position...].starts(with: name.utf8) {
            position += name.utf8.count
            return value
        }
        let start = position
        if try peek() == UInt8(ascii: "-") { position += 1 }
        try digits(startsWithZero: false)
        var isInteger = true
        if position < bytes.count, bytes[position] == UInt8(ascii: "."), isDigit(position + 1) {
            isInteger = false
            position += 1
            try digits(startsWithZero: true)
        }
        if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
            let isSigned = position + 1 < bytes.count && [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[position + 1])
            if isDigit(position + (isSigned ? 2 : 1)) {
                isInteger = false
                position += isSigned ? 2 : 1
                try digits(startsWithZero: true)
            }
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        let number = Double(text) ?? (text.hasPrefix("-") ? -.infinity : .infinity)
        if isInteger { return Int64(text).map(Json.integer) ?? .large(number) }
        try demand(number.isFinite, "a number is not finite")
        return .number(number)
    }

    private func isDigit(_ at: Int) -> Bool { at < bytes.count && UInt8(ascii: "0")...UInt8(ascii: "9") ~= bytes[at] }

    /// Reads digits. A number has no zero before other digits.
    private mutating func digits(startsWithZero: Bool) throws {
        guard isDigit(position) else { throw failure() }
        if !startsWithZero, bytes[position] == UInt8(ascii: "0") {
            position += 1
        } else {
            while isDigit(position) { position += 1 }
        }
    }
}
