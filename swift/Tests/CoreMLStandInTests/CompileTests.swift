import Testing

@preconcurrency @testable import CoreML

/// The public way from a package to a prediction; it needs the process that all of a program's models share.
@Suite(
    .enabled(
        if: ProcessInfo.processInfo.environment["EDGESAM_PYTHON"] != nil,
        "the process that models share finds its Python by EDGESAM_PYTHON only"))
struct CompileTests {
    @Test func compilesLoadsPredictsAndMoves() async throws {
        let compiled = try await MLModel.compileModel(at: TestPackages.package("arrays"))
        #expect(compiled.lastPathComponent == "arrays.mlmodelc")
        let moved = compiled.deletingLastPathComponent().appending(path: "moved.mlmodelc")
        try FileManager.default.moveItem(at: compiled, to: moved)
        let model = try await MLModel.load(contentsOf: moved, configuration: MLModelConfiguration())
        #expect(model.configuration.computeUnits == .all)
        #expect(try await model.prediction(from: TestPackages.arrayInputs()).array("product")[0].floatValue == 600)
        let plan = try await MLComputePlan.load(contentsOf: moved, configuration: MLModelConfiguration())
        guard case .program(let program) = plan.modelStructure else {
            Issue.record("not a program")
            return
        }
        let operation = try #require(program.functions["main"]?.block.operations.last)
        #expect(plan.deviceUsage(for: operation) == nil && plan.estimatedCost(of: operation) == nil)
        let missing = await message { _ = try await MLModel.compileModel(at: URL(filePath: "/nowhere/a.mlpackage")) }
        #expect(missing == "/nowhere/a.mlpackage: no such file or folder; expected a .mlpackage or .mlmodel")
    }
}
