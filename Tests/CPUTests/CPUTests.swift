import Testing
@testable import CPU
