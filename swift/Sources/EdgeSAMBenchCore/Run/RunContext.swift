import Foundation

/// The world outside a run; a test brings its own.
public struct RunContext: Sendable {
    public var store: any FileStore
    public var clock: any MonotonicClock
    public var probe: any EnvironmentProbe
    public var runner: any ModelRunner
    public var heartbeat: any HeartbeatSource
    public var app: AppDescription
    public var device: DeviceDescription

    public init(
        store: any FileStore = DiskFileStore(), clock: any MonotonicClock = SystemMonotonicClock(),
        probe: any EnvironmentProbe, runner: any ModelRunner, heartbeat: any HeartbeatSource = ThreadHeartbeat(),
        app: AppDescription, device: DeviceDescription
    ) {
        self.store = store
        self.clock = clock
        self.probe = probe
        self.runner = runner
        self.heartbeat = heartbeat
        self.app = app
        self.device = device
    }
}
