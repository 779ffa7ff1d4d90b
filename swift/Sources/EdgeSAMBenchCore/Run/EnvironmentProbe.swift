/// Reads the circumstances of the process and the machine.  Called from the heartbeat's thread.
public protocol EnvironmentProbe: Sendable {
    func read() -> EnvironmentReading
}
