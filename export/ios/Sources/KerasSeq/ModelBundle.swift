import Foundation

/// What is in the zip at the end of a .tflite: vocab.txt, config.json and card.json.
///
/// Foundation has no zip reader. Each reader of such files, in any language, follows the same strict rules
/// (docs/formats.md), so all accept the same files.
final class ModelBundle {
    let vocabulary: KerasSeq.Vocabulary? // nil in a model that is not of text
    let config: [String: Json]
    let card: [String: Json]
    let modelBytes: Int // the first bytes of the file, the model without the zip

    private static let format = 2
    private static let mostTokens = 1 << 19
    private static let smallestModel = 12 // bytes
    private static let largest = ["vocab.txt": 16 << 20, "config.json": 1 << 20, "card.json": 1 << 20]

    /// Reads the bundle of a file; verifies all hashes. Nothing in the file is run.
    init(_ file: [UInt8]) throws {
        let isModel = file.count >= 8 && file[4..<8].elementsEqual("TFL3".utf8)
        try demand(isModel, "a model's file must be a .tflite: it must have TFL3 at byte 4")
        let zip = try Zip(file)
        let words = try zip.read("vocab.txt", most: ModelBundle.largest["vocab.txt"]!)
        let configuration = try zip.read("config.json", most: ModelBundle.largest["config.json"]!)
        let cardBytes = try zip.read("card.json", most: ModelBundle.largest["card.json"]!)
        let isSmall = (words ?? []).reduce(0) { $0 + ($1 == 0x0A ? 1 : 0) } <= ModelBundle.mostTokens
        try demand(isSmall, "vocab.txt must have at most \(ModelBundle.mostTokens) tokens")
        vocabulary = try words.map(KerasSeq.Vocabulary.parse)
        config = try ModelBundle.object("config.json", configuration)
        card = try ModelBundle.object("card.json", cardBytes ?? Array("{}".utf8))
        try ModelBundle.requireConfig(config)
        modelBytes = try ModelBundle.modelBytes(file, zip, config)
        let found = Platform.sha256(file[..<modelBytes])
        try demand(config["model_sha256"]?.string == found, "the model is damaged: its SHA-256 differs; export it again")
        let stated = config["vocabulary_sha256"] ?? .null
        let isSame = words.map { stated.string == Platform.sha256($0) } ?? stated.isNull
        try demand(isSame, "the vocabulary is another than that of the model: its SHA-256 differs")
    }

    /// Returns the signatures of the model in the file. This library has no tensors of 16-bit integers.
    func signatures(_ file: [UInt8]) throws -> [String: Signature] {
        let runs = "for export/native/micro and TensorFlow Lite for Microcontrollers"
        let isOfIntegers = config["quantization"]?.string == "integer"
        try demand(!isOfIntegers, "the file has integers only, \(runs): export it with --quantization=int8")
        return try Signatures.read(file, size: modelBytes)
    }

    private static func object(_ name: String, _ content: [UInt8]?) throws -> [String: Json] {
        guard let content else { throw KerasSeqError("the file has no \(name) inside: export it again with keras-seq export") }
        let value: Json
        do {
            _ = try KerasSeq.Vocabulary.utf8(content, name)
            value = try Json.parse(content)
        } catch let error as KerasSeqError {
            throw KerasSeqError("\(name): \(error)")
        }
        guard let object = value.object else { throw KerasSeqError("\(name) must be a JSON object") }
        return object
    }

    private static func requireConfig(_ config: [String: Json]) throws {
        let stated = config["format"]
        let isKnown = stated?.isInteger == true && stated?.double == Double(format)
        try demand(isKnown, "the file must have the bundle format \(format): export it again, or update this library")
        for (name, isValid) in values {
            try demand(config[name].map(isValid) ?? false, "the file has a damaged config.json: `\(name)` is missing or wrong")
        }
    }

    private static func modelBytes(_ file: [UInt8], _ zip: Zip, _ config: [String: Json]) throws -> Int {
        guard case .integer(let stated) = config["model_bytes"] else { return 0 } // was checked before
        let size = Int(stated)
        let isRight = size >= smallestModel && size == zip.start
        let root = isRight ? zip.number(0, 4) : 0
        let isModel = isRight && root >= 8 && root <= size - 4
        try demand(isModel, "the file has a damaged bundle: `model_bytes` is not where the model ends")
        return size
    }

    private static func isCount(_ value: Json) -> Bool {
        if case .integer(let number) = value { return 1...Int64(Int32.max) ~= number } else { return false }
    }

    private static var values: [(String, (Json) -> Bool)] {
        [
            ("model_bytes", isCount), ("batch", isCount),
            ("state", { $0.string == "explicit" || $0.string == "internal" }),
            ("sampling", { $0.object != nil }),
        ]
    }
}

/// The zip at the end of a file; its entries, checked.
struct Zip {
    private struct Entry {
        let name: [UInt8], method: Int, sum: Int, packed: Int, size: Int, offset: Int
    }

    private static let end = 22 // bytes of the last record
    private static let entry = 46 // of an entry of the directory, without its name
    private static let header = 30 // of a local header, without its name
    private static let largestDirectory = 1 << 16
    private static let stored = 0
    private static let deflated = 8

    private let file: [UInt8]
    private var directory = 0 // its offset
    private var entries: [[UInt8]: Entry] = [:]

    /// The offset of the first entry, where the model ends; -1 if there is none.
    var start: Int { entries.values.map(\.offset).min() ?? -1 }

    init(_ file: [UInt8]) throws {
        self.file = file
        let end = file.count - Zip.end
        try requireComplete(end >= 0 && number(end, 4) == 0x06054B50 && number(end + 4, 4) == 0 && number(end + 20, 2) == 0)
        let count = number(end + 8, 2)
        let length = number(end + 12, 4)
        directory = number(end + 16, 4)
        try requireComplete(number(end + 10, 2) == count && length <= Zip.largestDirectory && directory + length == end)
        var position = directory
        for _ in 0..<count { position = try readEntry(position, end) }
        try requireComplete(position == end)
    }

    private func requireComplete(_ holds: Bool) throws {
        try demand(holds, "the file has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export")
    }

    /// Returns a little-endian number; 0 if it is not inside of the file.
    func number(_ position: Int, _ bytes: Int) -> Int {
        guard position >= 0, position + bytes <= file.count else { return 0 }
        return file[position..<position + bytes].reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    /// Reads the entry of the directory at a position; returns the position of the next.
    private mutating func readEntry(_ position: Int, _ end: Int) throws -> Int {
        try requireComplete(position + Zip.entry <= end && number(position, 4) == 0x02014B50)
        let nameSize = number(position + 28, 2)
        let next = position + Zip.entry + nameSize + number(position + 30, 2) + number(position + 32, 2)
        try requireComplete(next <= end && number(position + 8, 2) == 0)
        let name = Array(file[position + Zip.entry..<position + Zip.entry + nameSize])
        let entry = Entry(
            name: name, method: number(position + 10, 2), sum: number(position + 16, 4), packed: number(position + 20, 4),
            size: number(position + 24, 4), offset: number(position + 42, 4))
        try requireComplete(entry.method == Zip.stored || entry.method == Zip.deflated)
        try requireLocalHeader(entry, position)
        try requireComplete(entries.updateValue(entry, forKey: name) == nil)
        return next
    }

    /// Requires the entry at its offset to say the same as the directory, and its bytes to end before the directory.
    private func requireLocalHeader(_ entry: Entry, _ position: Int) throws {
        try requireComplete(entry.offset + Zip.header + entry.name.count + entry.packed <= directory)
        let header = entry.offset
        try requireComplete(number(header, 4) == 0x04034B50 && number(header + 28, 2) == 0)
        try requireComplete(file[header + 4..<header + 28].elementsEqual(file[position + 6..<position + 30]))
        try requireComplete(file[(header + Zip.header)...].starts(with: entry.name))
    }

    /// Returns the content of an entry; nil if there is none with this name.
    func read(_ name: String, most: Int) throws -> [UInt8]? {
        guard let entry = entries[Array(name.utf8)] else { return nil }
        try demand(entry.size <= most, "\(name) must have at most \(most) bytes. Received: \(entry.size)")
        let first = entry.offset + Zip.header + entry.name.count
        let packed = Array(file[first..<first + entry.packed])
        let content = entry.method == Zip.stored ? packed : Platform.inflate(packed, size: entry.size) ?? []
        try requireComplete(content.count == entry.size && Zip.checksum(content) == entry.sum)
        return content
    }

    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { rest, _ in rest >> 1 ^ (rest & 1 == 1 ? 0xEDB8_8320 : 0) }
    }

    /// Returns the CRC-32 of bytes.
    private static func checksum(_ bytes: [UInt8]) -> Int {
        Int(~bytes.reduce(UInt32.max) { $0 >> 8 ^ table[Int(($0 ^ UInt32($1)) & 0xFF)] })
    }
}
