import FoundationEssentials
import Testing

/// Where the time of a step goes, as the program says it.
@Suite(.serialized) struct ProfileTests {
    private let session: CommandLineSession

    init() throws { session = try CommandLineSession() }

    /// The rows of a profile are all groups of the step, and their work is the step's; on the CPU and on OpenCL.
    @Test(arguments: ["cpu", "opencl"]) func profileIsTheWholeStep(_ device: String) throws {
        struct Line: Decodable {
            struct Work: Decodable { var multiplyAdds, exps, bytes: Int }
            var workload, what, place: String?
            var step_ms, groups_ms, floor_ms, ms: Double?
            var groups: Int
            var work: Work
        }
        let profile = ["profile", "made", "--device", device, "--seconds", "0.01"]
        let found = try session.run(profile + ["--json"])
        try #require(found.status == 0, "\(found.errors)")
        let lines = try found.output.split(separator: "\n").map {
            try JSONDecoder().decode(Line.self, from: Data($0.utf8))
        }
        let (whole, rows) = (lines[0], lines.dropFirst())
        #expect(whole.workload == "made" && (whole.step_ms ?? 0) > 0 && (whole.floor_ms ?? 0) > 0)
        #expect(rows.reduce(0) { $0 + $1.groups } == whole.groups)
        #expect(rows.reduce(0) { $0 + $1.work.multiplyAdds } == whole.work.multiplyAdds)
        #expect(abs(rows.reduce(0) { $0 + ($1.ms ?? 0) } - (whole.groups_ms ?? 0)) < 1e-6 * (whole.groups_ms ?? 0))
        #expect(zip(rows, rows.dropFirst()).allSatisfy { ($0.ms ?? 0) >= ($1.ms ?? 0) })
        #expect(
            rows.allSatisfy { $0.what?.isEmpty == false } && rows.contains { $0.place?.contains(".swift:") == true })
        let table = try session.run(profile + ["--rows", "2"])
        #expect(table.output.contains("of peak") && table.output.contains("--rows 0 prints all"), "\(table.output)")
    }

    @Test func measuredDevices() throws {
        struct Device: Decodable {
            struct Rates: Decodable { var multiplyAdds, exps, bytes: Double }
            var name: String
            var rates: Rates?
        }
        func devices(_ more: String...) throws -> [Device] {
            let found = try session.run(["devices", "--json"] + more)
            return try found.output.split(separator: "\n").map {
                try JSONDecoder().decode(Device.self, from: Data($0.utf8))
            }
        }
        let measured = try devices("--measure")
        #expect(measured.first?.name == "cpu")
        for device in measured {
            let rates = try #require(device.rates)
            #expect(min(rates.multiplyAdds, rates.exps, rates.bytes) > 1e6, "\(device.name)")
        }
        #expect(try devices().allSatisfy { $0.rates == nil })
    }
}
