// The part of SwiftUI that the app in export/ios/README.md calls, so that it can be compiled.
@_exported import Foundation

@propertyWrapper
public final class State<Value> {
    public var wrappedValue: Value
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

public protocol ObservableObject: AnyObject {}

@propertyWrapper
public struct Published<Value> {
    public var wrappedValue: Value
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

@MainActor
public protocol View {
    associatedtype Body: View
    var body: Body { get }
}

extension Never: View { public var body: Never { fatalError() } }

public struct Text: View {
    nonisolated public init(_ content: String) {}
    public var body: Never { fatalError() }
}

extension View {
    public func task(_ action: @escaping @MainActor () async -> Void) -> some View { self }
}
