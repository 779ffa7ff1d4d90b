#if canImport(ObjectiveC)
    import ObjectiveC
#else
    /// Linux has no autorelease pools.
    func autoreleasepool<Result>(_ body: () throws -> Result) rethrows -> Result { try body() }
#endif
