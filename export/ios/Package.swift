// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "KerasSeq",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "KerasSeq", targets: ["KerasSeq"])],
    dependencies: [.package(url: "https://github.com/google-ai-edge/LiteRT", branch: "release/2.3.0")],
    targets: [.target(name: "KerasSeq", dependencies: [.product(name: "LiteRT", package: "LiteRT")])]
)
