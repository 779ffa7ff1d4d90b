/// A Python process that answers frames on its standard output.  Not safe to share: `ModelService` has the only one.
///
/// Its standard input and output are a pair of sockets, which unlike a pair of pipes is made in one step such that no
/// other child inherits it: an inherited end would stay open after the process died, and a read would wait for ever.
final class PythonProcess {
    /// The process ended, or sent something that is no frame.
    struct Failure: Error {
        let reason: String
        let standardError: String
    }

    static let maximumHeaderBytes = 16 << 20
    static let maximumPayloadBytes = 1 << 30

    let identifier: pid_t
    private let channel: Int32
    private let errors: StandardErrorTail
    private var isOpen = true

    init(executable: String, arguments: [String]) throws(Failure) {
        let channel = try Self.makePair()
        let errors = try Self.makePair()
        let (code, identifier) = Self.spawn(
            executable: executable, arguments: arguments, descriptors: [channel.theirs, channel.theirs, errors.theirs])
        close(channel.theirs)
        close(errors.theirs)
        guard code == 0 else {
            close(channel.ours)
            close(errors.ours)
            throw Failure(
                reason: "cannot start '\(executable)' (\(String(cString: strerror(code)))); set EDGESAM_PYTHON to a "
                    + "Python that has edgesam-export", standardError: "")
        }
        self.identifier = identifier
        self.channel = channel.ours
        self.errors = StandardErrorTail(descriptor: errors.ours)
    }

    deinit {
        stop()
    }

    /// Sends a frame and returns header and payload of the answer.  After a failure the process is of no more use.
    func exchange(header: Data, payload: Data) throws(Failure) -> (header: Data, payload: Data) {
        var length = UInt32(header.count).littleEndian
        try write(Data(bytes: &length, count: 4) + header)
        try write(payload)
        let size = try read(4).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
        guard (2...Self.maximumHeaderBytes).contains(size) else { throw broken("a header of \(size) bytes") }
        let answer = try read(size)
        guard let envelope = try? JSONDecoder().decode(ServiceEnvelope.self, from: answer),
            (0...Self.maximumPayloadBytes).contains(envelope.payloadBytes)
        else { throw broken("a header that is not an answer") }
        return (answer, try read(envelope.payloadBytes))
    }

    /// Ends the process by ending its input; one that does not end within two seconds is killed.
    func stop() {
        _ = end()
    }

    private static func makePair() throws(Failure) -> (ours: Int32, theirs: Int32) {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw Failure(reason: "cannot make a socket (\(String(cString: strerror(errno))))", standardError: "")
        }
        return (ends[0], ends[1])
    }

    private static func spawn(
        executable: String, arguments: [String], descriptors: [Int32]
    ) -> (code: Int32, identifier: pid_t) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (target, descriptor) in descriptors.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(target))
        }
        // Foundation's `Process` notices a child's end by a socket without close-on-exec: inherited here, it would keep
        // whoever waits for that child waiting as long as this process lives.
        // Closing a number that is not open is no error here.
        for descriptor in Int32(3)..<1024 { posix_spawn_file_actions_addclose(&actions, descriptor) }
        let environment = ProcessInfo.processInfo.environment.map { "\($0.key)=\($0.value)" }
        let argv = ([executable] + arguments).map { strdup($0) } + [nil]
        let envp = environment.map { strdup($0) } + [nil]
        defer { for text in argv + envp { free(text) } }
        var identifier = pid_t()
        let code = posix_spawnp(&identifier, executable, &actions, nil, argv, envp)
        return (code, identifier)
    }

    private func write(_ data: Data) throws(Failure) {
        let done = data.withUnsafeBytes { buffer in
            var rest = Slice(base: buffer, bounds: buffer.indices)
            while !rest.isEmpty {
                // Writing to a process that died must be an error, not a signal that ends this one.
                let start = UnsafeRawBufferPointer(rebasing: rest).baseAddress
                let count = send(channel, start, rest.count, Int32(MSG_NOSIGNAL))
                if count > 0 { rest = rest.dropFirst(count) } else if errno != EINTR { return false }
            }
            return true
        }
        guard done else { throw ended() }
    }

    private func read(_ count: Int) throws(Failure) -> Data {
        var data = Data(count: count)
        let done = data.withUnsafeMutableBytes { buffer in
            var filled = 0
            while filled < count {
                let more = Glibc.read(channel, buffer.baseAddress?.advanced(by: filled), count - filled)
                if more > 0 { filled += more } else if more == 0 || errno != EINTR { return false }
            }
            return true
        }
        guard done else { throw ended() }
        return data
    }

    private func ended() -> Failure {
        let status = end()
        let tail = errors.text()
        let lastLine = tail.split(separator: "\n").last.map { ": \($0)" } ?? ""
        return Failure(reason: "the Python process ended \(status)\(lastLine)", standardError: tail)
    }

    private func broken(_ what: String) -> Failure {
        kill(identifier, SIGKILL)
        _ = end()
        return Failure(reason: "the Python process sent \(what)", standardError: errors.text())
    }

    /// Returns how it ended, in words.
    private func end() -> String {
        guard isOpen else { return "before" }
        isOpen = false
        shutdown(channel, Int32(SHUT_WR))
        var status: Int32 = 0
        var waited = 0
        while waitpid(identifier, &status, WNOHANG) == 0 {
            if waited == 200 { kill(identifier, SIGKILL) }
            usleep(10_000)
            waited += 1
        }
        close(channel)
        let signalNumber = status & 0x7F
        return signalNumber == 0 ? "with status \((status >> 8) & 0xFF)" : "by signal \(signalNumber)"
    }
}
