import Compression
import CryptoKit
import Foundation

/// What comes from Apple's frameworks.
enum Platform {
    /// Returns what deflated bytes inflate to; nil if that is not exactly `size` bytes, or if bytes are left over.
    static func inflate(_ packed: [UInt8], size: Int) -> [UInt8]? {
        var content = [UInt8](repeating: 0, count: size + 1) // so that more than the stated size is seen
        let filled = packed.withUnsafeBufferPointer { source in
            content.withUnsafeMutableBufferPointer { inflate(source, $0) }
        }
        guard filled == size else { return nil }
        return Array(content.prefix(size))
    }

    /// Inflates into a buffer; returns how many bytes were written, or nil if the source is damaged or longer.
    private static func inflate(
        _ source: UnsafeBufferPointer<UInt8>, _ target: UnsafeMutableBufferPointer<UInt8>
    ) -> Int? {
        guard let first = source.baseAddress, let room = target.baseAddress else { return nil }
        var stream = compression_stream(dst_ptr: room, dst_size: 0, src_ptr: first, src_size: 0, state: nil)
        // In Apple's framework, "zlib" is deflate without the header of zlib.
        let isReady = compression_stream_init(&stream, COMPRESSION_STREAM_DECODE, COMPRESSION_ZLIB) == COMPRESSION_STATUS_OK
        guard isReady else { return nil }
        defer { compression_stream_destroy(&stream) }
        stream.src_ptr = first
        stream.src_size = source.count
        stream.dst_ptr = room
        stream.dst_size = target.count
        let status = compression_stream_process(&stream, Int32(COMPRESSION_STREAM_FINALIZE.rawValue))
        return status == COMPRESSION_STATUS_END && stream.src_size == 0 ? target.count - stream.dst_size : nil
    }

    static func sha256(_ bytes: some DataProtocol) -> String {
        SHA256.hash(data: bytes).map { String(UInt16($0) | 0x100, radix: 16).suffix(2) }.joined()
    }
}
