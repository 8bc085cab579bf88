import Compiler

/// The source of a program under construction. Kernels with the same text are one kernel: what differs between them
/// (extents, strides, memory) is bound at launch.
struct KernelLibrary {
    private var names: [String: String] = [:]
    private var bodies: [(name: String, text: String)] = []
    /// Where a kernel is, by the name of its launches: a text's place, and what the kernel is called there.
    private var kernels: [String: (body: Int, name: String)] = [:]
    private var needsRandom = false
    private var preludes: [String] = []

    /// Adds a kernel whose text calls itself `KERNEL` and returns its name.
    /// - Parameter further: kernels of the text with names that are macros for `MARTLET_NAME(KERNEL, _<name>)`.
    mutating func add(_ text: String, prefix: String, further: [String] = []) -> String {
        if let name = names[text] { return name }
        let name = "\(prefix)_\(names.count)"
        names[text] = name
        kernels[name] = (bodies.count, "KERNEL")
        for kernel in further { kernels["\(name)_\(kernel)"] = (bodies.count, kernel) }
        bodies.append((name, text))
        return name
    }

    /// The parameters of a kernel, by the name of its launches; `nil` where they cannot be told.
    func parameters(of kernel: String) -> [JoinedKernel.Parameter]? {
        kernels[kernel].flatMap { JoinedKernel.parameters(of: $0.name, in: bodies[$0.body].text) }
    }

    /// Adds text once, as it is.
    mutating func addOnce(_ text: String) { if !preludes.contains(text) { preludes.append(text) } }

    mutating func useRandom() { needsRandom = true }

    /// Adds what the functions of a program need beside its own text.
    mutating func use(_ program: Program) {
        if ProgramText.goesOneByOne(program) { useRandom() }
        for definition in ProgramText.definitions(of: program) { addOnce(definition) }
    }

    /// The whole program.
    /// - Parameter joined: kernels that take the place of others, by the names of their launches.
    func source(_ joined: [String: JoinedKernel] = [:]) -> String {
        var bodies = bodies
        for (launch, kernel) in joined {
            guard let (body, name) = kernels[launch] else { continue }
            bodies[body].text = kernel.text(bodies[body].text, of: name)
        }
        var parts = [KernelText.common]
        if needsRandom { parts.append(KernelText.random + "\n#pragma OPENCL FP_CONTRACT ON") }
        parts += preludes + bodies.map { "#define KERNEL \($0.name)\n\($0.text)\n#undef KERNEL" }
        return parts.joined(separator: "\n") + "\n"
    }
}

/// The parameters of a kernel and what they are bound to, side by side.
struct ParameterList {
    private(set) var text: [String] = []
    private(set) var names: [String] = []
    private(set) var arguments: [LaunchArgument] = []

    mutating func pointer(_ type: String, _ name: String, _ argument: LaunchArgument, constant: Bool = false) {
        text.append("__global \(constant ? "const " : "")\(type)* \(name)")
        names.append(name)
        arguments.append(argument)
    }

    mutating func integer(_ name: String, _ argument: LaunchArgument) {
        text.append("const int \(name)")
        names.append(name)
        arguments.append(argument)
    }

    /// The parameters of a kernel that has no others.
    var declaration: String { text.joined(separator: ", ") }
    /// The parameters behind others.
    var further: String { text.map { ", " + $0 }.joined() }
    /// The same as a call hands them on.
    var furtherNames: String { names.map { ", " + $0 }.joined() }
}

/// Macros in front of a text of the folder Kernels.
typealias Macros = [(name: String, value: String)]

/// Defines macros around a text and takes them back after it.
func with(_ macros: Macros, _ text: String) -> String {
    macros.map { "#define \($0.name) \($0.value)\n" }.joined() + text
        + macros.map { "\n#undef \($0.name.prefix { $0 != "(" })" }.joined()
}

/// The macros by which a hand-written kernel calls the functions of an epilogue.
func epilogueMacros(_ list: ParameterList) -> Macros {
    [("EPILOGUE_PARAMETERS", list.further), ("EPILOGUE_ARGUMENTS", list.furtherNames)]
}
