/// A kernel for several launches at once: work-groups with index i along the third dimension do what the launch of member i would.
///
/// Twenty parameters of a dozen numbers are updated by twenty launches of one kernel, each of which leaves a GPU all but idle and costs as
/// much time as a launch does. The kernel that takes their place has the parameters of each, `x_0`, `x_1`, .., of which a work-group
/// takes its own by their old names before anything else.
struct JoinedKernel {
    /// A parameter as the text declares it: `__global const float*` and `x`.
    struct Parameter {
        var type: String
        var name: String
        /// Bytes that it takes of what a kernel may be given.
        var byteCount: Int { type.contains("*") ? 8 : 4 }
    }

    /// How many launches share a kernel at most: a work-item looks for its own among so many.
    static let mostMembers = 16
    /// What every device takes as the parameters of a kernel.
    static let mostBytes = 1024

    /// For so many members.
    var capacity: Int
    /// The parameters that are the same memory in all of them, which are there once.
    var isShared: [Bool]

    /// The parameters of the function `name` in a text, in order.
    /// - Returns: `nil` where they cannot be told, as where macros stand for some, or where the kernel already looks at the third dimension.
    static func parameters(of name: String, in text: String) -> [Parameter]? {
        let third = ["_id(2)", "_groups(2)", "_size(2)"]
        guard let head = head(of: name, in: text), !third.contains(where: text.contains) else { return nil }
        let declarations = text[head.declaration].split(separator: ",")
        let parameters = declarations.compactMap { declaration -> Parameter? in
            let words = declaration.replacing("*", with: "* ").split(whereSeparator: \.isWhitespace)
            guard words.count >= 2, let name = words.last, name.first?.isLowercase == true,
                name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" })
            else { return nil }
            return Parameter(type: words.dropLast().joined(separator: " "), name: String(name))
        }
        return parameters.count == declarations.count ? parameters : nil
    }

    /// The text with the function `name` changed.
    func text(_ text: String, of name: String) -> String {
        guard let head = Self.head(of: name, in: text), let parameters = Self.parameters(of: name, in: text) else {
            return text
        }
        var (declarations, choices): ([String], [String]) = ([], [])
        for (parameter, isShared) in zip(parameters, isShared) {
            let (type, name) = (parameter.type, parameter.name)
            if isShared {
                declarations.append("\(type) \(name)")
                continue
            }
            declarations += (0..<capacity).map { "\(type) \(name)_\($0)" }
            let others = (1..<capacity).map { "martlet_member == \($0) ? \(name)_\($0) : " }.joined()
            choices.append("    \(type) \(name) = \(others)\(name)_0;\n")
        }
        return text[..<head.declaration.lowerBound] + declarations.joined(separator: ", ")
            + text[head.declaration.upperBound..<head.body]
            + "\n    const int martlet_member = (int)get_group_id(2);\n" + choices.joined() + text[head.body...]
    }

    /// Where the declaration of a function's parameters is, and where its body begins, behind the brace.
    private static func head(
        of name: String, in text: String
    ) -> (declaration: Range<String.Index>, body: String.Index)? {
        guard let start = text.firstRange(of: "void \(name)("), let end = text[start.upperBound...].firstIndex(of: ")"),
            let brace = text[end...].firstIndex(of: "{")
        else { return nil }
        return (start.upperBound..<end, text.index(after: brace))
    }
}
