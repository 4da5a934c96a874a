// The part of Apple's CryptoKit that export/ios calls, with its signatures. The test hashes.
import Foundation

nonisolated(unsafe) public var sha256InTest: (([UInt8]) -> [UInt8])!

public struct SHA256Digest: Sequence {
    let bytes: [UInt8]
    public func makeIterator() -> Array<UInt8>.Iterator { bytes.makeIterator() }
}

public enum SHA256 {
    public static func hash<D: DataProtocol>(data: D) -> SHA256Digest { SHA256Digest(bytes: sha256InTest(Array(data))) }
}
