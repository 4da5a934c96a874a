/// An input or an output of a signature.
struct TensorShape: Equatable {
    let isFloat: Bool
    let shape: [Int]
}

/// The inputs and outputs of a signature by their names.
struct Signature {
    let inputs: [String: TensorShape]
    let outputs: [String: TensorShape]

    /// The names of the states, in their order.
    var states: [String] {
        inputs.keys.filter { $0.hasPrefix("state_") }.sorted { (Int($0.dropFirst(6)) ?? -1) < (Int($1.dropFirst(6)) ?? -1) }
    }
}

/// Reads the signatures of a model from its flatbuffer, in the same way for each runtime.
struct Signatures {
    private static let most = 256 // entries of a list
    private static let float32 = 0
    private static let int32 = 2

    private let bytes: ArraySlice<UInt8>

    /// Returns the signatures of the model in the first `size` bytes.
    static func read(_ model: [UInt8], size: Int) throws -> [String: Signature] {
        try Signatures(bytes: model[..<size]).all()
    }

    private func number(_ position: Int, _ size: Int) throws -> Int {
        let isInside = position >= 0 && position + size <= bytes.count
        try demand(isInside, "the model is damaged: its signatures cannot be read")
        return bytes[position..<position + size].reversed().reduce(0) { $0 << 8 | Int($1) }
    }

    private func signed(_ position: Int) throws -> Int { Int(Int32(truncatingIfNeeded: try number(position, 4))) }

    /// Returns the position of a field of a table; 0 if the table does not have it.
    private func field(_ table: Int, _ index: Int) throws -> Int {
        let layout = table - (try signed(table))
        let entry = 4 + 2 * index
        let offset = entry < (try number(layout, 2)) ? try number(layout + entry, 2) : 0
        return offset == 0 ? 0 : table + offset
    }

    /// Returns what a field points to; 0 if the table does not have it.
    private func target(_ table: Int, _ index: Int) throws -> Int {
        let position = try field(table, index)
        return position == 0 ? 0 : position + (try number(position, 4))
    }

    private func integer(_ table: Int, _ index: Int) throws -> Int {
        let position = try field(table, index)
        return position == 0 ? 0 : try number(position, 4)
    }

    private func count(_ list: Int) throws -> Int {
        let count = list == 0 ? 0 : try number(list, 4)
        try demand(count <= Signatures.most, "the model is damaged: it has a list of \(count) signatures, inputs or outputs")
        return count
    }

    /// Returns the positions of the tables in a list.
    private func tables(_ table: Int, _ index: Int) throws -> [Int] {
        let list = try target(table, index)
        return try (0..<count(list)).map { try element(list, $0) }
    }

    private func element(_ list: Int, _ index: Int) throws -> Int {
        let position = list + 4 + 4 * index
        return position + (try number(position, 4))
    }

    private func string(_ table: Int, _ index: Int) throws -> String {
        let position = try target(table, index)
        let points = try (0..<count(position)).map { UInt32(try number(position + 4 + $0, 1)) }
        return String(points: points)
    }

    private func all() throws -> [String: Signature] {
        let root = try number(0, 4)
        let graphs = try target(root, 2)
        var found: [String: Signature] = [:]
        for table in try tables(root, 7) { found[try string(table, 2)] = try signature(table, graphs) }
        return found
    }

    private func signature(_ table: Int, _ graphs: Int) throws -> Signature {
        let graph = try integer(table, 4)
        try demand(graphs != 0 && graph < (try number(graphs, 4)), "the model is damaged: a signature has no graph")
        let tensors = try target(try element(graphs, graph), 0)
        return Signature(inputs: try named(table, 0, tensors), outputs: try named(table, 1, tensors))
    }

    private func named(_ table: Int, _ index: Int, _ tensors: Int) throws -> [String: TensorShape] {
        var found: [String: TensorShape] = [:]
        for one in try tables(table, index) { found[try string(one, 0)] = try tensor(tensors, try integer(one, 1)) }
        return found
    }

    private func tensor(_ tensors: Int, _ index: Int) throws -> TensorShape {
        try demand(tensors != 0 && index < (try number(tensors, 4)), "the model is damaged: a signature has no tensor")
        let table = try element(tensors, index)
        let list = try target(table, 0)
        let position = try field(table, 1)
        let type = position == 0 ? Signatures.float32 : try number(position, 1)
        let isKnown = type == Signatures.float32 || type == Signatures.int32
        try demand(isKnown, "the model is damaged: a signature takes other numbers than float32 and int32")
        let shape = try (0..<count(list)).map { try signed(list + 4 + 4 * $0) }
        return TensorShape(isFloat: type == Signatures.float32, shape: shape)
    }
}
