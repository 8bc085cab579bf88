import COpenCL
import Graph
import Synchronization

/// An in-order queue of a device's commands. What is enqueued runs later; reads and `finish` wait for it.
final class CommandQueue: @unchecked Sendable {
    // The handle is set once and OpenCL calls on it are thread safe, hence `@unchecked`; `events` belongs to the one thread that profiles.
    private let handle: cl_command_queue
    /// For messages.
    private let deviceName: String
    /// Arrays that commands which may not have run yet read.
    private let held = Mutex(HeldArrays())
    /// Of the commands since the last `takeSeconds`, where the queue keeps times.
    private var events: [cl_event]?
    private var hostTime = Duration.zero

    /// So many bytes of arrays wait at most for the device to read them.
    private static let heldLimit = 64 << 20

    /// - Parameter keepsTimes: whether the device notes when it begins and ends each command. Only profiles ask for it: PoCL launches as
    ///   fast with it as without (1.1 to 1.4 us), but other drivers may not, and a queue of a profile's own is made in 10 us.
    init(_ context: cl_context, _ description: DeviceDescription, deviceName: String, keepsTimes: Bool) throws {
        let properties = cl_command_queue_properties(keepsTimes ? CL_QUEUE_PROFILING_ENABLE : 0)
        var status: cl_int = 0
        guard let handle = clCreateCommandQueue(context, description.id, properties, &status), status == CL_SUCCESS
        else { throw OpenCLError.call("clCreateCommandQueue", code: status, device: deviceName) }
        self.handle = handle
        self.deviceName = deviceName
        events = keepsTimes ? [] : nil
    }

    deinit {
        clFinish(handle)
        for event in events ?? [] { clReleaseEvent(event) }
        clReleaseCommandQueue(handle)
    }

    // MARK: - Commands

    func launch(_ kernel: cl_kernel, _ name: String, global: [Int], local: [Int]) throws {
        try enqueue("clEnqueueNDRangeKernel(\(name))") {
            clEnqueueNDRangeKernel(handle, kernel, cl_uint(global.count), nil, global, local, 0, nil, $0)
        }
    }

    func copy(
        _ source: OpenCLBuffer, _ offset: Int, to target: OpenCLBuffer, _ targetOffset: Int, byteCount: Int
    ) throws {
        guard byteCount > 0 else { return }
        try enqueue("clEnqueueCopyBuffer") {
            clEnqueueCopyBuffer(handle, source.memory, target.memory, offset, targetOffset, byteCount, 0, nil, $0)
        }
    }

    /// - Parameter byteCount: of the buffer as OpenCL has it.
    func fillWithZeros(_ memory: cl_mem, byteCount: Int) throws {
        var zero: cl_uchar = 0
        try enqueue("clEnqueueFillBuffer") {
            clEnqueueFillBuffer(handle, memory, &zero, 1, 0, byteCount, 0, nil, $0)
        }
    }

    /// Copies bytes to the start of a buffer and waits.
    func write(_ source: UnsafeRawBufferPointer, to buffer: OpenCLBuffer) throws {
        guard source.count > 0 else { return }
        try enqueue("clEnqueueWriteBuffer") {
            clEnqueueWriteBuffer(
                handle, buffer.memory, cl_bool(CL_TRUE), 0, source.count, source.baseAddress, 0, nil, $0)
        }
    }

    /// Copies an array to the start of a buffer some time before the next command runs, and does not wait.
    ///
    /// The array's bytes are read later, so the queue keeps the array until the device has them. An array that its owner changes
    /// meanwhile is copied first, as there are two who hold it.
    func upload(_ array: HostArray, to buffer: OpenCLBuffer) throws {
        guard array.byteCount > 0 else { return }
        try array.withUnsafeBytes { bytes in
            try enqueue("clEnqueueWriteBuffer") {
                clEnqueueWriteBuffer(
                    handle, buffer.memory, cl_bool(CL_FALSE), 0, bytes.count, bytes.baseAddress, 0, nil, $0)
            }
        }
        // Behind the enqueueing: whoever finds the array among those that are held may wait for the command that reads it.
        let byteCount = held.withLock { $0.add(array) }
        if byteCount > Self.heldLimit { try finish() }
    }

    /// Copies the start of a buffer to the host once everything enqueued before has run.
    func read(_ buffer: OpenCLBuffer, into target: UnsafeMutableRawBufferPointer) throws {
        guard target.count > 0 else { return }
        try releasingArrays {
            try enqueue("clEnqueueReadBuffer") {
                clEnqueueReadBuffer(
                    handle, buffer.memory, cl_bool(CL_TRUE), 0, target.count, target.baseAddress, 0, nil, $0)
            }
        }
    }

    /// Begins to copy the start of a buffer to the host, behind everything that was enqueued before.
    func startReading(_ buffer: OpenCLBuffer, byteCount: Int) throws -> StartedRead {
        // OpenCL refuses to read nothing.
        let target = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, byteCount), alignment: 16)
        let mark = held.withLock(\.end)
        var event: cl_event?
        let status = clEnqueueReadBuffer(
            handle, buffer.memory, cl_bool(CL_FALSE), 0, target.count, target.baseAddress, 0, nil, &event)
        if status != CL_SUCCESS { target.deallocate() }
        try check(status, "clEnqueueReadBuffer")
        return StartedRead(target: target, byteCount: byteCount) { [self] in
            defer { if let event { clReleaseEvent(event) } }
            guard event != nil else { return try finish() }
            try check(clWaitForEvents(1, &event), "clWaitForEvents")
            held.withLock { $0.release(before: mark) }
        }
    }

    /// Hands what was enqueued to the device without waiting for it.
    func flush() throws { try check(clFlush(handle), "clFlush") }

    /// Waits for everything that was enqueued.
    func finish() throws { try releasingArrays { try check(clFinish(handle), "clFinish") } }

    /// How many arrays wait for the device to read them.
    var heldCount: Int { held.withLock(\.count) }

    /// Lets go of the arrays that were read before a command that `wait` waits for.
    private func releasingArrays(_ wait: () throws -> Void) rethrows {
        let mark = held.withLock(\.end)
        try wait()
        held.withLock { $0.release(before: mark) }
    }

    /// Enqueues a command, with an event of its own where the queue keeps times.
    private func enqueue(_ function: String, _ call: (UnsafeMutablePointer<cl_event?>?) -> cl_int) throws {
        guard events != nil else { return try check(call(nil), function) }
        var event: cl_event?
        try check(call(&event), function)
        if let event { events?.append(event) }
    }

    private func check(_ status: cl_int, _ function: String) throws {
        guard status == CL_SUCCESS else { throw OpenCLError.call(function, code: status, device: deviceName) }
    }

    // MARK: - Times

    /// Runs work of the host's, whose time counts where the queue keeps times.
    func onHost(_ work: () throws -> Void) throws {
        try finish()
        hostTime += try ContinuousClock().measure(work)
    }

    /// Waits, and returns how long the device and the host have worked since the last call; the pauses between commands do not count.
    func takeSeconds() throws -> Double {
        try finish()
        defer {
            for event in events ?? [] { clReleaseEvent(event) }
            if events != nil { events = [] }
            hostTime = .zero
        }
        let nanoseconds = try (events ?? []).reduce(UInt64(0)) { sum, event in
            sum + (try time(event, CL_PROFILING_COMMAND_END) - time(event, CL_PROFILING_COMMAND_START))
        }
        return Double(nanoseconds) * 1e-9 + hostTime / .seconds(1)
    }

    private func time(_ event: cl_event, _ what: Int32) throws -> UInt64 {
        var time: cl_ulong = 0
        try check(
            clGetEventProfilingInfo(event, cl_profiling_info(what), MemoryLayout<cl_ulong>.size, &time, nil),
            "clGetEventProfilingInfo")
        return time
    }
}

/// Arrays in the order in which commands read them.
private struct HeldArrays {
    private var arrays: [HostArray] = []
    /// The number of the first array that is still held; numbers are never given twice.
    private var first = 0
    private var byteCount = 0

    var count: Int { arrays.count }
    /// The number of the next array.
    var end: Int { first + arrays.count }

    /// - Returns: the bytes of all arrays.
    mutating func add(_ array: HostArray) -> Int {
        arrays.append(array)
        byteCount += array.byteCount
        return byteCount
    }

    mutating func release(before end: Int) {
        let done = max(0, min(end - first, arrays.count))
        byteCount -= arrays.prefix(done).reduce(0) { $0 + $1.byteCount }
        arrays.removeFirst(done)
        first += done
    }
}
