@preconcurrency import CoreML
import EdgeSAMCore
import Foundation

/// An encoder and a decoder that belong together, loaded and checked against their contracts.
struct Networks: Sendable {
    let encoder: Network
    let decoder: Network
    let encoderContract: Contract
    let decoderContract: Contract
    /// Prompt slots of the decoder, nil when their number is free.
    let slots: Int?
    /// Most prompt slots when their number is free.
    let mostPoints: Int?

    var model: String { encoderContract.model }
    var frame: ImageFrame { encoderContract.frame }

    init(encoder: URL, decoder: URL, options: EdgeSAMOptions) async throws {
        let cache = try CompiledModelCache(folder: options.compiledModels, limit: options.compiledModelLimit)
        async let first = Self.open(encoder, units: options.encoderUnits, function: nil, options: options, cache: cache)
        async let second = Self.open(
            decoder, units: options.decoderUnits, function: options.decoderFunction, options: options, cache: cache)
        (self.encoder, self.decoder) = try await (first, second)

        let encoderSide = try ModelContract(
            text: self.encoder.contractText, file: self.encoder.file, expected: .encoder)
        let decoderSide = try ModelContract(
            text: self.decoder.contractText, file: self.decoder.file, expected: .decoder)
        try ModelContract.check(encoder: encoderSide.contract, decoder: decoderSide.contract)
        encoderContract = encoderSide.contract
        decoderContract = decoderSide.contract
        slots = try decoderSide.slots(function: options.decoderFunction)
        mostPoints = decoderSide.mostPoints
        try self.encoder.check(encoderContract, slots: nil)
        try self.decoder.check(decoderContract, slots: slots)
    }

    private static func open(
        _ file: URL, units: MLComputeUnits, function: String?, options: EdgeSAMOptions, cache: CompiledModelCache
    ) async throws -> Network {
        let compiled = try await cache.compiled(file)
        func load(_ url: URL, function: String?) async throws -> Network {
            try await Network(
                compiled: url, file: file.lastPathComponent,
                configuration: options.configuration(units: units, function: function))
        }
        do {
            return try await load(compiled, function: function)
        } catch let error as EdgeSAMError {
            guard case .cannotLoad = error else { throw error }
            if let function, let plain = try? await load(compiled, function: nil) {
                let known = ModelContract.functionNames(plain.contractText)
                throw known.contains(function) ? error : .unknownFunction(name: function, known: known)
            }
            guard compiled != file else { throw error }
            // A system update may refuse what an older compiler wrote.
            try? cache.remove(file)
            return try await load(cache.compiled(file), function: function)
        }
    }

    /// Embedding of a prepared image.
    func encode(_ prepared: PreparedImage) async throws -> ImageEmbedding {
        guard prepared.geometry.frame == frame, let input = encoderContract.inputs.first else {
            throw EdgeSAMError.noPixels(detail: "it was prepared for another model; use prepare of this predictor")
        }
        let side = frame.size
        let value: NetworkInput =
            encoderContract.imageInput
            ? .image(rgb: prepared.pixels, side: side)
            : .values(prepared.tensor(), shape: [1, 3, side, side], type: encoder.inputType(input.name))
        let outputs = try await encoder.predict(
            [input.name: value], promised: encoderContract.outputs, stage: .encoder)
        let maps = try encoderContract.outputs.map { promised throws(EdgeSAMError) in
            let map = try output(promised.name, of: outputs, from: encoder, promised: encoderContract)
            return ImageEmbedding.Map(name: promised.name, tensor: map)
        }
        return ImageEmbedding(model: model, geometry: prepared.geometry, maps: maps)
    }

    /// Masks of one prompt, in the decoder's order.
    func decode(_ prompt: Prompt, on embedding: ImageEmbedding) async throws -> [MaskCandidate] {
        let outputs = try await decoder.predict(
            try inputs(prompt, embedding), promised: decoderContract.outputs, stage: .decoder)
        let masks = try output("masks", of: outputs, from: decoder, promised: decoderContract)
        let scores = try output("scores", of: outputs, from: decoder, promised: decoderContract).floats()
        let area = Prompt.maskSide * Prompt.maskSide
        let tokens = decoderContract.candidates
        let logits = try masks.floats()
        guard logits.count == tokens.count * area else {
            throw EdgeSAMError.contractBroken(
                file: decoder.file,
                detail: "masks have shape \(masks.array.sizes), the contract \(tokens.count) candidates")
        }
        do {
            _ = try MaskScore.best(scores: scores, candidates: tokens.count)
        } catch {
            throw EdgeSAMError.badScores(error)
        }
        return tokens.indices.map { index in
            MaskCandidate(
                token: tokens[index], score: scores[index],
                logits: Array(logits[index * area..<(index + 1) * area]), geometry: embedding.geometry)
        }
    }

    /// Check a prompt without running anything.
    func check(_ prompt: Prompt, on embedding: ImageEmbedding) throws(EdgeSAMError) {
        _ = try inputs(prompt, embedding)
    }

    /// The decoder's inputs for one prompt.
    private func inputs(_ prompt: Prompt, _ embedding: ImageEmbedding) throws(EdgeSAMError) -> [String: NetworkInput] {
        guard embedding.model == model, embedding.geometry.frame == frame else {
            throw .foreignEmbedding(embedding: embedding.model, predictor: model)
        }
        guard prompt.maskLogits == nil || decoderContract.maskInput else { throw .maskPromptNotTaken }
        let packed = try pack(prompt, geometry: embedding.geometry)
        let side = Prompt.maskSide
        var inputs: [String: NetworkInput] = [:]
        for tensor in decoderContract.inputs {
            let type = decoder.inputType(tensor.name)
            let (values, shape): ([Float], [Int])
            switch tensor.name {
            case "point_coords": (values, shape) = (packed.coords, [1, packed.slots, 2])
            case "point_labels": (values, shape) = (packed.labels, [1, packed.slots])
            case "mask_input":
                (values, shape) = (
                    prompt.maskLogits ?? [Float](repeating: 0, count: side * side), [1, 1, side, side]
                )
            case "has_mask_input": (values, shape) = ([prompt.maskLogits == nil ? 0 : 1], [1])
            default:
                guard let map = embedding.maps.first(where: { $0.name == tensor.name }) else {
                    throw .contractBroken(file: decoder.file, detail: "input '\(tensor.name)' is unknown")
                }
                guard map.tensor.array.dataType == type else {
                    (values, shape) = (map.values, map.shape)
                    break
                }
                inputs[tensor.name] = .tensor(map.tensor)
                continue
            }
            inputs[tensor.name] = .values(values, shape: shape, type: type)
        }
        return inputs
    }

    private func pack(_ prompt: Prompt, geometry: ImageGeometry) throws(EdgeSAMError) -> PackedPrompt {
        let packed: PackedPrompt
        do {
            packed = try PromptPacker.pack(prompt, geometry: geometry, slots: slots)
        } catch {
            throw .prompt(error)
        }
        if let mostPoints, packed.slots > mostPoints {
            throw .prompt(
                .tooManySlots(
                    needed: packed.slots, slots: mostPoints, points: prompt.points.count, hasBox: prompt.box != nil))
        }
        return packed
    }

    private func output(
        _ name: String, of outputs: [String: SharedTensor], from network: Network, promised contract: Contract
    ) throws(EdgeSAMError) -> SharedTensor {
        let shape = contract.outputs.first { $0.name == name }?.shape
        guard let found = outputs[name], let shape, shape == found.array.sizes.map(Contract.Dimension.fixed) else {
            throw .contractBroken(
                file: network.file,
                detail: "output '\(name)' is missing or of shape \(outputs[name]?.array.sizes ?? [])")
        }
        return found
    }
}
