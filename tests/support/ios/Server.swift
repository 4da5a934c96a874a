// Answers the tests of export/ios: a JSON request per line on stdin, a JSON answer per line on stdout.
// To run a signature it asks the test: it writes {"run": ..., "inputs": ...} and reads the outputs.
import Compression
import CryptoKit
import Foundation
import LiteRT

private func json(_ value: Any?) -> String {
    switch value {
    case nil: return "null"
    case let value as Bool: return value ? "true" : "false"
    case let value as Int: return String(value)
    case let value as Int32: return String(value)
    case let value as Float: return json(Double(value))
    case let value as Double: return value.isNaN ? "NaN" : value.isInfinite ? (value > 0 ? "Infinity" : "-Infinity") : "\(value)"
    case let value as String: return quoted(value)
    case let value as [Any?]: return "[" + value.map(json).joined(separator: ",") + "]"
    case let value as [String: Any?]: return "{" + value.map { quoted($0) + ":" + json($1) }.joined(separator: ",") + "}"
    default: fatalError("no JSON for \(String(describing: value))")
    }
}

private func quoted(_ text: String) -> String {
    let escaped = text.utf16.map { unit in
        0x20...0x7E ~= unit && unit != 0x22 && unit != 0x5C
            ? String(UnicodeScalar(UInt8(unit))) : "\\u" + String(UInt32(unit) | 0x10000, radix: 16).suffix(4)
    }
    return "\"" + escaped.joined() + "\""
}

private func say(_ value: [String: Any?]) {
    FileHandle.standardOutput.write(Data((json(value) + "\n").utf8))
}

private func hear() throws -> Json { try Json.parse(Array((readLine() ?? "null").utf8)) }

private func bytes(_ hexadecimal: String) -> [UInt8] {
    let digits = Array(hexadecimal.utf8)
    return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)! }
}

private func hexadecimal(_ bytes: [UInt8]) -> String { bytes.map { String(UInt16($0) | 0x100, radix: 16).suffix(2) }.joined() }

/// Asks the test for the outputs of a signature; nil if LiteRT fails there.
private func asked(_ signature: String, _ inputs: [String: Any?]) -> [String: Tensor]? {
    say(["run": signature, "inputs": inputs])
    guard let outputs = try! hear().object else { return nil }
    return outputs.mapValues { one in
        let values = one.list!
        let numbers = values.dropFirst().map { $0.double ?? Double($0.string!)! } // "NaN" is not JSON
        return values[0].string == "int32" ? .integers(numbers.map { Int32($0) }) : .floats(numbers.map { Float($0) })
    }
}

private func valuesOf(_ tensor: Tensor) -> Any {
    if case .integers(let values) = tensor { return values } else { return tensor.floats }
}

private final class AskingRunner: Runner {
    func run(_ signature: String, _ inputs: [String: Tensor]) throws -> [String: Tensor] {
        guard let found = asked(signature, inputs.mapValues(valuesOf)) else {
            throw KerasSeqError("the test says that \(signature) failed", isFromRuntime: true)
        }
        return found
    }
}

private struct Request {
    let values: [String: Json]
    func string(_ name: String) -> String { values[name]?.string ?? "" }
    func strings(_ name: String) -> [String] { (values[name]?.list ?? []).map { $0.string! } }
    func number(_ name: String) -> Double? { values[name]?.double }

    var options: KerasSeq.Options {
        var seed: UInt64?
        if case .integer(let value) = values["seed"] { seed = UInt64(bitPattern: value) }
        return KerasSeq.Options(
            maxTokens: number("max_tokens").map { Int($0) } ?? 200, temperature: number("temperature").map { Float($0) },
            topK: number("top_k").map { Int($0) }, topP: number("top_p").map { Float($0) },
            minP: number("min_p").map { Float($0) }, seed: seed, stop: strings("stop"))
    }
}

private var model: TextModel!

private func written(_ request: Request) throws -> [String: Any?] {
    let writer = try model.write(request.string("prompt"), request.options)
    let changes = request.values["changes"]?.object ?? [:]
    var pieces: [KerasSeq.Piece] = []
    var failures = request.number("again") ?? 0
    while true {
        if let temperature = changes[String(pieces.count)]?.double {
            try writer.change(temperature: Float(temperature))
        }
        do {
            guard let piece = try writer.next() else { break }
            pieces.append(piece)
        } catch {
            if failures == 0 { throw error }
            failures -= 1
        }
    }
    try writer.change(temperature: 0.125) // after the end, which runs nothing
    return [
        "text": pieces.map(\.text).joined(), "pieces": pieces.map(\.text), "tokens": pieces.map(\.token),
        "log_probabilities": pieces.map(\.logProbability), "finish_reason": writer.finishReason,
    ]
}

/// Opens a file as an app does, writes a text, and closes it, on the stand-in for LiteRT's Swift API.
private func onDevice(_ request: Request) async throws -> [String: Any?] {
    let path = request.string("path")
    let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    for (name, signature) in try Signatures.read(file, size: ModelBundle(file).modelBytes) {
        namesInTest[name] = (Array(signature.inputs.keys), Array(signature.outputs.keys))
    }
    runInTest = { signature, inputs in
        asked(signature, inputs)?.mapValues(valuesOf)
    }
    _ = try await KerasSeq.open(URL(fileURLWithPath: path)).suggest("") // is freed without `close`
    let left = aliveInTest
    let opened = try await KerasSeq.open(URL(fileURLWithPath: path))
    var pieces: [String] = []
    for try await piece in opened.write(request.string("prompt"), request.options) { pieces.append(piece) }
    let suggestions = try await opened.suggest(request.string("prompt")).map(\.insert)
    let score = try await opened.score(request.string("prompt")).logProbabilities
    opened.close()
    var afterwards = ""
    do { _ = try await opened.score("T") } catch { afterwards = "\(error)" }
    return [
        "pieces": pieces, "suggestions": suggestions, "score": score, "afterwards": afterwards, "card": opened.card,
        "open": [left, aliveInTest],
    ]
}

private func orMessage(_ make: () throws -> Any?) -> Any? {
    do { return try make() } catch { return "\(error)" }
}

private func answer(_ request: Request) async throws -> Any? {
    switch request.string("task") {
    case "random":
        return request.values["pairs"]!.list!.map { pair in
            let text = pair.list![0].string!
            let seed = UInt64(text) ?? UInt64(bitPattern: Int64(text)!)
            let position = UInt32(pair.list![1].double!)
            let word = String(UInt64(Threefry.word(seed: seed, position: position)) | 1 << 32, radix: 16).suffix(8)
            return [String(word), Threefry.uniform(seed: seed, position: position)] as [Any?]
        }
    case "words": return request.strings("texts").map { Tokens.split($0.points, .word).map { String(points: $0) } }
    case "classes": return (0..<UInt32(request.number("count")!)).map { Tokens.classOf($0).rawValue }
    case "encode":
        let vocabulary = try KerasSeq.Vocabulary.parse(bytes(request.string("file")))
        return request.strings("texts").map { text in
            orMessage {
                let ids = try vocabulary.encode(text)
                return [ids, try vocabulary.decode(ids), vocabulary.level.rawValue] as [Any?]
            }
        }
    case "decode":
        let vocabulary = try KerasSeq.Vocabulary.parse(bytes(request.string("file")))
        return try request.values["continuations"]!.list!.map { one in
            try vocabulary.decode(one.list![1].list!.map { Int($0.double!) }, after: one.list![0].string!)
        }
    case "bundle":
        return request.strings("paths").map { path in
            orMessage { try ModelBundle([UInt8](Data(contentsOf: URL(fileURLWithPath: path)))).vocabulary?.count ?? 0 }
        }
    case "open":
        let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: request.string("path"))))
        let bundle = try ModelBundle(file)
        model = try TextModel(bundle, bundle.signatures(file), AskingRunner())
        return ["size": model.vocabulary.count, "writes": model.writes] as [String: Any?]
    case "write": return try written(request)
    case "suggest":
        return try model.suggest(request.string("text"), count: Int(request.number("count")!))
            .map { [$0.text, $0.insert, $0.probability] as [Any?] }
    case "score":
        let score = try model.score(request.string("text"))
        return [score.tokens, score.logProbabilities] as [Any?]
    case "device": return try await onDevice(request)
    default: fatalError(request.string("task"))
    }
}

@main
struct Server {
    static func main() async {
        inflateInTest = { packed, most in
            say(["inflate": hexadecimal(packed), "most": most])
            guard let found = try! hear().list else { return nil }
            return (bytes(found[0].string!), found[1].value as! Bool, Int(found[2].double!))
        }
        sha256InTest = { content in
            say(["sha256": hexadecimal(content)])
            return bytes(try! hear().string!)
        }
        while let line = readLine() {
            do {
                let request = Request(values: try Json.parse(Array(line.utf8)).object!)
                say(["answer": try await answer(request)])
            } catch {
                say(["error": "\(error)"])
            }
        }
    }
}
