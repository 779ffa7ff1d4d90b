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
        try await decode([prompt], on: embedding)[0]
    }

    /// Masks of each prompt in one run of the decoder, which takes at most `queries` of them.
    func decode(_ prompts: [Prompt], on embedding: ImageEmbedding) async throws -> [[MaskCandidate]] {
        let outputs = try await decoder.predict(
            try inputs(prompts, embedding), promised: decoderContract.outputs, stage: .decoder)
        let masks = try output("masks", of: outputs, from: decoder, promised: decoderContract)
        let scores = try output("scores", of: outputs, from: decoder, promised: decoderContract).floats()
        let presence =
            decoderContract.scoresObjects
            ? try output("object_score", of: outputs, from: decoder, promised: decoderContract).floats() : nil
        let area = Prompt.maskSide * Prompt.maskSide
        let (tokens, queries) = (decoderContract.candidates, decoderContract.queries)
        let logits = try masks.floats()
        guard logits.count == queries * tokens.count * area, scores.count == queries * tokens.count,
            presence == nil || presence?.count == queries
        else {
            throw EdgeSAMError.contractBroken(
                file: decoder.file,
                detail: "masks have shape \(masks.array.sizes), the contract \(tokens.count) candidates")
        }
        return try prompts.indices.map { query in
            let own = Array(scores[query * tokens.count..<(query + 1) * tokens.count])
            try check(scores: own)
            return tokens.indices.map { index in
                let start = (query * tokens.count + index) * area
                return MaskCandidate(
                    token: tokens[index], score: own[index], objectScore: presence?[query],
                    logits: Array(logits[start..<start + area]), geometry: embedding.geometry)
            }
        }
    }

    /// Check that one of a prompt's candidates can be chosen.
    private func check(scores: [Float]) throws(EdgeSAMError) {
        do {
            _ = try MaskScore.best(scores: scores, candidates: decoderContract.candidates.count)
        } catch {
            throw .badScores(error)
        }
    }

    /// Check a prompt without running anything.
    func check(_ prompt: Prompt, on embedding: ImageEmbedding) throws(EdgeSAMError) {
        _ = try inputs([prompt], embedding)
    }

    /// The decoder's inputs for as many prompts as it takes at most; the other queries are slots that are all empty.
    private func inputs(
        _ prompts: [Prompt], _ embedding: ImageEmbedding
    ) throws(EdgeSAMError) -> [String: NetworkInput] {
        guard embedding.model == model, embedding.geometry.frame == frame else {
            throw .foreignEmbedding(embedding: embedding.model, predictor: model)
        }
        guard decoderContract.maskInput || prompts.allSatisfy({ $0.maskLogits == nil }) else {
            throw .maskPromptNotTaken
        }
        let packed = try pack(prompts, geometry: embedding.geometry)
        let (side, queries) = (Prompt.maskSide, decoderContract.queries)
        let spare = queries - prompts.count
        var inputs: [String: NetworkInput] = [:]
        for tensor in decoderContract.inputs {
            let type = decoder.inputType(tensor.name)
            let (values, shape): ([Float], [Int])
            switch tensor.name {
            case "point_coords": (values, shape) = (packed.coords, [queries, packed.slots / queries, 2])
            case "point_labels": (values, shape) = (packed.labels, [queries, packed.slots / queries])
            case "mask_input":
                let none = [Float](repeating: 0, count: side * side)
                let masks = prompts.flatMap { $0.maskLogits ?? none }
                (values, shape) = (
                    masks + [Float](repeating: 0, count: spare * side * side), [queries, 1, side, side]
                )
            case "has_mask_input":
                let has: [Float] = prompts.map { $0.maskLogits == nil ? 0 : 1 }
                (values, shape) = (has + [Float](repeating: 0, count: spare), [queries])
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

    /// Prompts one after the other, each filled up with empty slots to the length of the longest, then empty ones.
    private func pack(_ prompts: [Prompt], geometry: ImageGeometry) throws(EdgeSAMError) -> PackedPrompt {
        let each = try prompts.map { prompt throws(EdgeSAMError) in try pack(prompt, geometry: geometry) }
        let longest = each.map(\.slots).max() ?? 1
        var all = PackedPrompt(coords: [], labels: [])
        for query in 0..<decoderContract.queries {
            let packed = query < each.count ? each[query] : PackedPrompt(coords: [], labels: [])
            let missing = longest - packed.slots
            all.coords += packed.coords + [Float](repeating: 0, count: 2 * missing)
            all.labels += packed.labels + [Float](repeating: PromptPacker.emptySlot, count: missing)
        }
        return all
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
