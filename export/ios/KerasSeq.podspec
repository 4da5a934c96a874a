# For apps that use CocoaPods: KerasSeq on the pod TensorFlowLiteSwift, in place of LiteRT's Swift package.
Pod::Spec.new do |spec|
  spec.name = "KerasSeq"
  spec.version = "0.1.0"
  spec.summary = "Text from a small recurrent language model of keras_seq, token by token"
  spec.homepage = "https://pypi.org/project/keras-seq"
  spec.license = "Apache-2.0"
  spec.author = "keras_seq"
  spec.source = { path: "." }
  spec.source_files = "Sources/KerasSeq/*.swift"
  spec.swift_version = "5.9"
  spec.platform = :ios, "15.0"
  spec.dependency "TensorFlowLiteSwift", "~> 2.14"
end
