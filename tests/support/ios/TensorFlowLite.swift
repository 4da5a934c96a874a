// The part of TensorFlowLiteSwift's API that export/ios calls, with its signatures (2.14), so that it can be compiled.
import Foundation

public final class Interpreter {
    public struct Options {
        public var threadCount: Int?
        public init() {}
    }

    public init(modelPath: String, options: Options? = nil) throws {}
    public func signatureRunner(with signatureKey: String) throws -> SignatureRunner { SignatureRunner() }
}

public final class SignatureRunner {
    public func invoke(with inputs: [String: Data]) throws {}
    public func output(named name: String) throws -> Tensor { Tensor(data: Data()) }
}

public struct Tensor { public let data: Data }
