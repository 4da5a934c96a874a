#if canImport(TensorFlowLite) && (!canImport(LiteRT) || WITHOUT_LITERT)
import Foundation
import TensorFlowLite

/// Runs the signatures of a model in the pod TensorFlowLiteSwift, one call at a time.
final class ModelRunner: Runner {
    private let signatures: [String: Signature]
    private var interpreter: Interpreter? // nil after `close`
    private var runners: [String: SignatureRunner] = [:]
    private let lock = NSLock()

    init(path: String, signatures: [String: Signature]) throws {
        self.signatures = signatures
        do {
            var options = Interpreter.Options()
            options.threadCount = 1
            interpreter = try Interpreter(modelPath: path, options: options)
        } catch {
            throw KerasSeqError("TensorFlow Lite cannot load the model: \(error)", isFromRuntime: true)
        }
    }

    func run(_ signature: String, _ inputs: [String: Tensor]) throws -> [String: Tensor] {
        lock.lock()
        defer { lock.unlock() }
        guard let interpreter else { throw KerasSeqError("the model was closed") }
        do {
            let runner = try runners[signature] ?? interpreter.signatureRunner(with: signature)
            runners[signature] = runner
            try runner.invoke(with: inputs.mapValues(\.data))
            var found: [String: Tensor] = [:]
            for (name, tensor) in signatures[signature]?.outputs ?? [:] {
                found[name] = Tensor(try runner.output(named: name).data, isFloat: tensor.isFloat)
            }
            return found
        } catch {
            throw KerasSeqError("TensorFlow Lite cannot run \(signature): \(error)", isFromRuntime: true)
        }
    }

    deinit { close() } // in the right order

    /// Frees the memory of the model.
    func close() {
        lock.lock()
        defer { lock.unlock() }
        runners = [:]
        interpreter = nil
    }
}

extension Tensor {
    fileprivate var data: Data {
        switch self {
        case .integers(let values): return values.withUnsafeBytes { Data($0) }
        case .floats(let values): return values.withUnsafeBytes { Data($0) }
        }
    }

    fileprivate init(_ data: Data, isFloat: Bool) {
        self = data.withUnsafeBytes {
            isFloat ? .floats(Array($0.bindMemory(to: Float.self))) : .integers(Array($0.bindMemory(to: Int32.self)))
        }
    }
}
#endif
