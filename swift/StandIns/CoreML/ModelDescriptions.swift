// The description of a model, from what the Python process says about it.

extension MLModelDescription {
    convenience init(_ answer: LoadAnswer) {
        let known: [String: MLModelMetadataKey] = [
            "description": .description, "author": .author, "license": .license, "version": .versionString,
        ]
        var metadata: [MLModelMetadataKey: Any] = [:]
        var creatorDefined: [String: String] = [:]
        for (key, text) in answer.metadata {
            if let key = known[key] { metadata[key] = text } else { creatorDefined[key] = text }
        }
        if !creatorDefined.isEmpty { metadata[.creatorDefinedKey] = creatorDefined }
        self.init(
            inputs: answer.inputs.map(MLFeatureDescription.init),
            outputs: answer.outputs.map(MLFeatureDescription.init),
            metadata: metadata)
    }
}

extension MLFeatureDescription {
    convenience init(_ feature: LoadAnswer.Feature) {
        if feature.kind == "image" {
            let format = feature.format.flatMap(ServicePixels.init(rawValue:))?.format ?? kCVPixelFormatType_32BGRA
            self.init(
                name: feature.name, type: .image, isOptional: feature.optional,
                imageConstraint: MLImageConstraint(
                    pixelsWide: feature.shape.last ?? 0, pixelsHigh: feature.shape.dropLast().last ?? 0,
                    pixelFormatType: format))
        } else {
            let dataType = MLMultiArrayDataType(serviceName: feature.dtype) ?? .float32
            self.init(
                name: feature.name, type: .multiArray, isOptional: feature.optional,
                multiArrayConstraint: MLMultiArrayConstraint(shape: feature.shape, dataType: dataType))
        }
    }
}

extension MLModelStructure {
    init(_ answer: StructureAnswer) {
        self = .program(
            Program(
                functions: answer.functions.mapValues {
                    Program.Function(
                        inputs: $0.inputs.map(Program.NamedValueType.init), block: Program.Block($0.block))
                }))
    }
}

extension MLModelStructure.Program.Block {
    init(_ block: StructureAnswer.Block) {
        self.init(
            inputs: block.inputs.map(MLModelStructure.Program.NamedValueType.init), outputNames: block.outputs,
            operations: block.operations.map {
                MLModelStructure.Program.Operation(
                    operatorName: $0.type, outputs: $0.outputs.map(MLModelStructure.Program.NamedValueType.init),
                    blocks: $0.blocks.map(MLModelStructure.Program.Block.init))
            })
    }
}
