import COpenCL
import Synchronization

/// The programs of a device that were built last, by their source.
///
/// A run loads the same schedule again and again: `martlet run maf-moons` loads 68 programs, of which 22 differ. Building one of ten
/// kernels again takes PoCL 0.2 s, though it finds them in its own cache.
///
/// A schedule is one program of all its kernels. Programs of single kernels would let schedules share them (104 of the 160 kernels of
/// `spline-eight-gaussians` differ), but each costs a start of the compiler and the text that all programs begin with. Seconds on PoCL
/// on a busy machine:
///
///     kernels                  one program     a program for each
///     10, nothing in a cache   3.0             15.6
///     10, all in PoCL's cache  0.2             2.0
///     72, nothing in a cache   18              83
///     72, all in PoCL's cache  0.7             18
///
/// Where a driver takes seconds for each kernel, `ProgramCache` sees to it that a schedule costs them once.
final class ProgramStore: Sendable {
    private let recent = Mutex<[(source: String, program: ProgramHandle)]>([])
    private static let limit = 32

    /// The program of a source, built by `build` where it is not among the last ones.
    func program(_ source: String, build: () throws -> ProgramHandle) rethrows -> ProgramHandle {
        if let known = recent.withLock({ take(source, of: &$0) }) { return known }
        // Programs are built outside the lock, as that takes long; two builds of one source at a time give two programs.
        let built = try build()
        recent.withLock {
            $0.append((source, built))
            if $0.count > Self.limit { $0.removeFirst() }
        }
        return built
    }

    /// Finds a program and makes it the most recent one.
    private func take(_ source: String, of recent: inout [(source: String, program: ProgramHandle)]) -> ProgramHandle? {
        guard let place = recent.lastIndex(where: { $0.source == source }) else { return nil }
        let found = recent.remove(at: place)
        recent.append(found)
        return found.program
    }
}

/// A built program, released with its last user.
final class ProgramHandle: @unchecked Sendable {
    // Set once; kernels may be made from it on any thread.
    let program: cl_program

    init(_ program: cl_program) { self.program = program }

    deinit { clReleaseProgram(program) }
}
