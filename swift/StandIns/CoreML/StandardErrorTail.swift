import Synchronization

/// Reads a socket to its end on a thread of its own and keeps the last 4096 bytes.
final class StandardErrorTail: Sendable {
    static let limit = 4096

    private let kept = Mutex(Data())
    private let done = DispatchSemaphore(value: 0)

    init(descriptor: Int32) {
        let thread = Thread { [self] in
            var buffer = [UInt8](repeating: 0, count: Self.limit)
            while true {
                let count = Glibc.read(descriptor, &buffer, buffer.count)
                if count > 0 {
                    kept.withLock { $0 = Data(($0 + buffer[..<count]).suffix(Self.limit)) }
                } else if count == 0 || errno != EINTR {
                    break
                }
            }
            close(descriptor)
            done.signal()
        }
        thread.stackSize = 256 << 10
        thread.start()
    }

    /// What was written last; waits a moment for the rest of it when the process has just ended.
    func text() -> String {
        if done.wait(timeout: .now() + 1) == .success { done.signal() }
        return kept.withLock { String(decoding: $0, as: UTF8.self) }
    }
}
