/// What this attempt compiled and loaded, to tell a first load from later ones.
struct LoadHistory {
    private var compiledNow: Set<ModelRole> = []
    private var loaded: [String] = []
    /// By role, once a model has been loaded.
    private(set) var interfaces: [ModelRole: ModelInterface] = [:]

    mutating func noteCompiled(_ role: ModelRole) { compiledNow.insert(role) }

    mutating func noteInterface(_ interface: ModelInterface, of role: ModelRole) { interfaces[role] = interface }

    /// True where the models were compiled by this attempt and these units and hints were not loaded before.
    mutating func isFresh(_ roles: [ModelRole], units: UnitsPerRole, hints: Hints) -> Bool {
        let keys = roles.map { "\($0.rawValue)/\(units[$0].rawValue)/\(hints)" }
        defer { loaded += keys }
        return roles.allSatisfy(compiledNow.contains) && !keys.contains(where: loaded.contains)
    }
}
