#if canImport(LiteRT) && !WITHOUT_LITERT
import Foundation
import LiteRT

/// Runs the signatures of a model in LiteRT 2, one call at a time.
final class ModelRunner: Runner {
    /// The buffers of a signature, in the order of its inputs and outputs.
    private struct Buffers {
        let index: Int
        let inputNames: [String]
        let outputNames: [String]
        let inputs: [TensorBuffer]
        let outputs: [TensorBuffer]
    }

    private let signatures: [String: Signature]
    private let environment: LiteRT.Environment
    private var compiled: CompiledModel? // nil after `close`
    private var buffers: [String: Buffers] = [:]
    private let lock = NSLock()

    init(path: String, signatures: [String: Signature]) throws {
        self.signatures = signatures
        do {
            let cpu = try CpuOptions()
            try cpu.setNumThreads(1)
            try cpu.setXNNPackWeightCachePath(":memory") // packs each matrix once for all signatures
            let options = try LiteRT.Options()
            try options.setHardwareAccelerators([.cpu])
            try options.addConcreteOptions(cpu)
            environment = try LiteRT.Environment()
            compiled = try CompiledModel(filePath: path, environment: environment, options: options)
        } catch {
            throw KerasSeqError("LiteRT cannot load the model: \(error)", isFromRuntime: true)
        }
    }

    func run(_ signature: String, _ inputs: [String: Tensor]) throws -> [String: Tensor] {
        lock.lock()
        defer { lock.unlock() }
        guard let compiled else { throw KerasSeqError("the model was closed") }
        do {
            let given = try buffers[signature] ?? buffersOf(signature, compiled)
            buffers[signature] = given
            for (name, buffer) in zip(given.inputNames, given.inputs) {
                switch inputs[name] {
                case .integers(let values): try buffer.write(values)
                case .floats(let values): try buffer.write(values)
                case nil: throw KerasSeqError("the model is damaged: \(signature) takes \(name)")
                }
            }
            try compiled.run(inputs: given.inputs, outputs: given.outputs, signatureIndex: given.index)
            var found: [String: Tensor] = [:]
            for (name, buffer) in zip(given.outputNames, given.outputs) {
                let isFloat = signatures[signature]?.outputs[name]?.isFloat ?? true
                found[name] = isFloat ? .floats(try buffer.read()) : .integers(try buffer.read())
            }
            return found
        } catch let error as KerasSeqError {
            throw error
        } catch {
            throw KerasSeqError("LiteRT cannot run \(signature): \(error)", isFromRuntime: true)
        }
    }

    private func buffersOf(_ signature: String, _ compiled: CompiledModel) throws -> Buffers {
        guard let index = try compiled.signatureKeys().firstIndex(of: signature) else {
            throw KerasSeqError("the model must have the signature \(signature)")
        }
        let inputs = try compiled.inputCount(signatureIndex: index)
        let outputs = try compiled.outputCount(signatureIndex: index)
        return Buffers(
            index: index,
            inputNames: try (0..<inputs).map { try compiled.inputName(inputIndex: $0, signatureIndex: index) },
            outputNames: try (0..<outputs).map { try compiled.outputName(outputIndex: $0, signatureIndex: index) },
            inputs: try compiled.createInputBuffers(signatureIndex: index),
            outputs: try compiled.createOutputBuffers(signatureIndex: index))
    }

    deinit { close() } // in the right order

    /// Frees the memory of the model.
    func close() {
        lock.lock()
        defer { lock.unlock() }
        buffers = [:] // before the environment that they were made in
        compiled = nil
    }
}
#endif
