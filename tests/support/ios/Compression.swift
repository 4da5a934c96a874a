// The part of Apple's Compression that export/ios calls, with its signatures. The test inflates, with zlib.

public struct compression_stream {
    public var dst_ptr: UnsafeMutablePointer<UInt8>
    public var dst_size: Int
    public var src_ptr: UnsafePointer<UInt8>
    public var src_size: Int
    public var state: UnsafeMutableRawPointer?

    public init(
        dst_ptr: UnsafeMutablePointer<UInt8>, dst_size: Int, src_ptr: UnsafePointer<UInt8>, src_size: Int,
        state: UnsafeMutableRawPointer?
    ) {
        (self.dst_ptr, self.dst_size, self.src_ptr, self.src_size, self.state) = (dst_ptr, dst_size, src_ptr, src_size, state)
    }
}

public struct compression_stream_operation: Equatable, Sendable { let value: UInt32 }
public struct compression_algorithm: Equatable, Sendable { let value: UInt32 }
public struct compression_stream_flags: Sendable { public let rawValue: UInt32 }
public struct compression_status: Equatable, Sendable { let value: Int32 }

public let COMPRESSION_STREAM_DECODE = compression_stream_operation(value: 1)
public let COMPRESSION_ZLIB = compression_algorithm(value: 0x205)
public let COMPRESSION_STREAM_FINALIZE = compression_stream_flags(rawValue: 1)
public let COMPRESSION_STATUS_OK = compression_status(value: 0)
public let COMPRESSION_STATUS_ERROR = compression_status(value: -1)
public let COMPRESSION_STATUS_END = compression_status(value: 1)

/// Inflates at most as many bytes as it is told; returns them, whether the stream has ended, and how many bytes are left.
nonisolated(unsafe) public var inflateInTest: (([UInt8], Int) -> (content: [UInt8], ended: Bool, left: Int)?)!

@discardableResult
public func compression_stream_init(
    _ stream: UnsafeMutablePointer<compression_stream>, _ operation: compression_stream_operation,
    _ algorithm: compression_algorithm
) -> compression_status {
    operation == COMPRESSION_STREAM_DECODE && algorithm == COMPRESSION_ZLIB ? COMPRESSION_STATUS_OK : COMPRESSION_STATUS_ERROR
}

public func compression_stream_process(_ stream: UnsafeMutablePointer<compression_stream>, _ flags: Int32) -> compression_status {
    let source = Array(UnsafeBufferPointer(start: stream.pointee.src_ptr, count: stream.pointee.src_size))
    guard flags == 1, let found = inflateInTest(source, stream.pointee.dst_size) else { return COMPRESSION_STATUS_ERROR }
    stream.pointee.dst_ptr.update(from: found.content, count: found.content.count)
    stream.pointee.dst_size -= found.content.count
    stream.pointee.src_size = found.left
    return found.ended ? COMPRESSION_STATUS_END : COMPRESSION_STATUS_OK
}

@discardableResult
public func compression_stream_destroy(_ stream: UnsafeMutablePointer<compression_stream>) -> compression_status {
    COMPRESSION_STATUS_OK
}
