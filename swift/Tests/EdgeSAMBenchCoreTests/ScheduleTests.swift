import Foundation
import Testing

@testable import EdgeSAMBenchCore

@Test func warmupEndsWhenTwoWindowsAgreeWithinFivePercent() {
    let rule = WarmupRule(iterations: 10)
    #expect(rule.verdict(on: Array(repeating: 100, count: 9)) == .again)
    #expect(rule.verdict(on: Array(repeating: 100, count: 10)) == .warm)
    // 500 and 475 differ by 5 % of the larger, 500 and 474 by more.
    #expect(rule.verdict(on: [100, 100, 100, 100, 100, 95, 95, 95, 95, 95]) == .warm)
    #expect(rule.verdict(on: [100, 100, 100, 100, 100, 95, 95, 95, 95, 94]) == .again)
    // The next look is a whole window later, at the two windows before it.
    let settled: [UInt64] = [900, 500, 300, 200, 100, 100, 100, 100, 100, 100]
    #expect(rule.verdict(on: settled) == .again)
    #expect(rule.verdict(on: settled + [100, 100]) == .again)
    #expect(rule.verdict(on: settled + [100, 100, 100, 100, 100]) == .warm)
}

@Test func warmupIsCapped() {
    let rule = WarmupRule(iterations: 4)
    let wild = (0..<20).map { UInt64(1) << ($0 % 20) }
    #expect(rule.verdict(on: Array(wild.prefix(18))) == .again)
    #expect(rule.verdict(on: wild) == .unsteady)
    #expect(WarmupRule(iterations: 0).verdict(on: []) == .warm)
}

@Test func samplesReachCountAndDuration() async throws {
    let place = try Workplace()
    try place.push { $0.schedule.minIterations = 10 }
    let byCount = try await place.run().cases[0]
    #expect(byCount.stages["encoder"]?.samplesNs == Array(repeating: 10_000_000, count: 10))
    #expect(byCount.stages["encoder"]?.warmupNs.count == 4)

    // 10 ms each: two seconds take 200.
    let longer = try Workplace()
    try longer.push { $0.schedule.minDurationS = 2 }
    let byDuration = try await longer.run().cases[0]
    #expect(byDuration.stages["encoder"]?.samplesNs.count == 200)
    #expect(byDuration.validity.minDurationMet)

    let shorter = try Workplace()
    try shorter.push {
        $0.schedule.minIterations = 1000
        $0.schedule.maxDurationS = 0.5
    }
    let capped = try await shorter.run().cases[0]
    #expect(capped.stages["decoder"]?.samplesNs.count == 50)
    #expect(!capped.validity.minIterationsMet)
    #expect(capped.validity.circumstances == [Circumstance(.fewIterations)])
    #expect(capped.outcome == .passed)
}

@Test func aPaceStartsPredictionsAtItsRate() async throws {
    let place = try Workplace()
    try place.push {
        $0.workload.paceHz = 25
        $0.workload.stages = [.encoder]
        $0.schedule.minIterations = 5
    }
    let measured = try await place.run().cases[0]
    // Starts at 0, 40, 80 ... ms; each takes 10, so 30 are waited before all but the first.
    #expect(place.clock.slept.with { $0.map { ($0 * 1000).rounded() } } == [30, 30, 30, 30])
    #expect(measured.stages["encoder"]?.samplesNs.count == 5)
}

@Test func sustainedFramesAreCountedOverAllWorkers() async throws {
    let place = try Workplace()
    try place.push {
        $0.schedule.sustainedDurationS = 2
        $0.workload.concurrency = 3
    }
    let runner = FakeRunner(clock: place.clock, overlap: 3)
    let sustained = try #require(try await place.run(runner).cases[0].sustained)
    let frames = await runner.log.filter { $0.hasPrefix("frame") }
    #expect(sustained.frames == frames.count)
    // Frames of 100 ms one after the other on a clock that all workers share: 20, and those begun before the end.
    #expect((20...22).contains(sustained.frames))
    #expect(abs(sustained.windowS - Double(frames.count) * 0.1) < 1e-6)
    #expect(Set(frames) == Set((0..<3).map { "frame [\"encoder\", \"decoder\"] worker \($0)" }))
}

@Test func varyingPointsGoRoundAndTheSwitchIsPicked() async throws {
    let place = try Workplace()
    try place.push {
        $0.workload.nPoints = [1, 4]
        $0.workload.varyPoints = true
        $0.schedule.minIterations = 6
        $0.schedule.warmupIterations = 0
    }
    let runner = FakeRunner(clock: place.clock)
    let cases = try await place.run(runner).cases
    #expect(cases.map(\.id) == ["cpu_only/all/n1", "cpu_only/all/n4", "cpu_only/all/n4/vary"])
    let varying = await runner.log.filter { $0.hasPrefix("predict decoder") }.suffix(6)
    #expect(Array(varying) == ["n1", "n4", "n1", "n4", "n1", "n4"].map { "predict decoder \($0)" })
    #expect(cases[2].shapeSwitchMs == ShapeSwitch(from: 1, to: 4, samplesNs: [10_000_000, 10_000_000, 10_000_000]))
    #expect(cases[1].shapeSwitchMs == nil)
}
