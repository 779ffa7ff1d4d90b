/// What a probe reads at one moment; nil where the system does not tell.
public struct EnvironmentReading: Sendable, Equatable {
    public var thermal: ThermalLevel?
    public var lowPower: Bool?
    /// 0 to 1.
    public var batteryLevel: Double?
    public var batteryState: String?
    /// 0 to 1.
    public var brightness: Double?
    /// Bytes of this process.
    public var footprint: Int?
    /// Highest footprint of this process so far, bytes.
    public var footprintHighWater: Int?
    /// Bytes that the process may still take.
    public var available: Int?

    public init(
        thermal: ThermalLevel? = nil, lowPower: Bool? = nil, batteryLevel: Double? = nil, batteryState: String? = nil,
        brightness: Double? = nil, footprint: Int? = nil, footprintHighWater: Int? = nil, available: Int? = nil
    ) {
        self.thermal = thermal
        self.lowPower = lowPower
        self.batteryLevel = batteryLevel
        self.batteryState = batteryState
        self.brightness = brightness
        self.footprint = footprint
        self.footprintHighWater = footprintHighWater
        self.available = available
    }
}

/// The circumstances of a case.
public struct CaseEnvironment: Codable, Sendable, Equatable {
    public struct Conditions: Codable, Sendable, Equatable {
        public var thermal: ThermalLevel?
        public var lowPower: Bool?
        public var batteryLevel: Double?
        public var batteryState: String?
        public var brightness: Double?

        init(_ reading: EnvironmentReading) {
            thermal = reading.thermal
            lowPower = reading.lowPower
            batteryLevel = reading.batteryLevel
            batteryState = reading.batteryState
            brightness = reading.brightness
        }
    }

    public struct Point: Codable, Sendable, Equatable {
        /// Since the start of the case.
        public var tS: Double
        public var thermal: ThermalLevel?
        public var footprint: Int?
        public var available: Int?
        public var batteryLevel: Double?
        public var lowPower: Bool?
    }

    public var start: Conditions
    public var end: Conditions
    public var series: [Point]
    public var events: [EnvironmentEvent]
}

/// Something that happened during a case.
public struct EnvironmentEvent: Codable, Sendable, Equatable {
    /// Since the start of the case.
    public var tS: Double
    public var kind: BenchEvent
    /// The new state, for example `serious` or `on`.
    public var value: String?
}

/// Kinds of events.
public enum BenchEvent: String, Codable, Sendable, CaseIterable {
    case backgrounded
    case foregrounded
    case thermal
    case lowPower = "low_power"
    case memoryWarning = "memory_warning"
}
