import Testing

@testable import EdgeSAMUI
