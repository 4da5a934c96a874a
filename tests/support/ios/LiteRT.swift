// The part of LiteRT's Swift API that export/ios calls, with the signatures of its published sources (2.3, in
// litert/swift/Sources/LiteRT). The calls go to the test, which runs the model in LiteRT.

public struct LiteRtError: Error {}

/// Runs a signature; set by the test.
nonisolated(unsafe) public var runInTest: ((String, [String: Any]) -> [String: Any]?)!
/// The names of the inputs and outputs of each signature; set by the test.
nonisolated(unsafe) public var namesInTest: [String: (inputs: [String], outputs: [String])] = [:]
/// Objects that are alive.
nonisolated(unsafe) public var aliveInTest = 0

public enum Accelerator: Int32 { case none = 0, cpu = 1, gpu = 2, npu = 4 }

public protocol ConcreteOptions {}

public final class CpuOptions: ConcreteOptions {
    public init() throws {}
    public func setNumThreads(_ numThreads: Int) throws {}
    public func setXNNPackWeightCachePath(_ path: String) throws {}
}

public final class Options {
    public init() throws {}
    public func setHardwareAccelerators(_ accelerators: Set<Accelerator>) throws {}
    public func addConcreteOptions(_ concreteOptions: ConcreteOptions) throws {}
}

public final class Environment {
    public enum Option {}
    public init(options: [Option] = []) throws {}
    deinit { precondition(aliveInTest == 0, "the environment ends before what was made in it") }
}

public final class TensorBuffer {
    var value: Any?

    init() { aliveInTest += 1 }
    deinit { aliveInTest -= 1 }

    public func write<T>(_ data: [T]) throws { value = data }

    public func read<T>() throws -> [T] {
        guard let found = value as? [T] else { throw LiteRtError() }
        return found
    }
}

public final class CompiledModel {
    public init(filePath: String, environment: Environment, options: Options? = nil) throws { aliveInTest += 1 }
    deinit { aliveInTest -= 1 }

    private let keys = namesInTest.keys.sorted()

    public func signatureKeys() throws -> [String] { keys }
    public func inputCount(signatureIndex: Int = 0) throws -> Int { namesInTest[keys[signatureIndex]]!.inputs.count }
    public func outputCount(signatureIndex: Int = 0) throws -> Int { namesInTest[keys[signatureIndex]]!.outputs.count }

    public func inputName(inputIndex: Int, signatureIndex: Int = 0) throws -> String {
        namesInTest[keys[signatureIndex]]!.inputs[inputIndex]
    }

    public func outputName(outputIndex: Int, signatureIndex: Int = 0) throws -> String {
        namesInTest[keys[signatureIndex]]!.outputs[outputIndex]
    }

    public func createInputBuffers(signatureIndex: Int = 0) throws -> [TensorBuffer] {
        namesInTest[keys[signatureIndex]]!.inputs.map { _ in TensorBuffer() }
    }

    public func createOutputBuffers(signatureIndex: Int = 0) throws -> [TensorBuffer] {
        namesInTest[keys[signatureIndex]]!.outputs.map { _ in TensorBuffer() }
    }

    public func run(inputs: [TensorBuffer], outputs: [TensorBuffer], options: Options? = nil, signatureIndex: Int = 0) throws {
        let key = keys[signatureIndex], names = namesInTest[key]!
        let given = Dictionary(uniqueKeysWithValues: zip(names.inputs, inputs.map { $0.value! }))
        guard let found = runInTest(key, given) else { throw LiteRtError() }
        for (name, buffer) in zip(names.outputs, outputs) { buffer.value = found[name] }
    }
}
