import Foundation

/// A file, a text or an option that cannot be used; the message says what is expected, and what was received.
public struct KerasSeqError: Error, CustomStringConvertible, LocalizedError {
    public let description: String
    /// Whether the runtime could not run the model.
    public let isFromRuntime: Bool

    init(_ description: String, isFromRuntime: Bool = false) {
        self.description = description
        self.isFromRuntime = isFromRuntime
    }

    public var errorDescription: String? { description }
}

/// Throws a `KerasSeqError` unless a condition holds.
func demand(_ holds: Bool, _ message: @autoclosure () -> String) throws {
    if !holds { throw KerasSeqError(message()) }
}
