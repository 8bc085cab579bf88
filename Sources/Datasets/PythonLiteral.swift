/// A Python literal, as the header of a NumPy array is one: texts, whole numbers, `True`, `False`, `None`, and tuples, lists and
/// dictionaries of such.
enum PythonLiteral: Equatable {
    case text(String)
    case whole(Int)
    case flag(Bool)
    case nothing
    case tuple([PythonLiteral])
    case list([PythonLiteral])
    case dictionary([Entry])

    struct Entry: Equatable {
        let key: PythonLiteral
        let value: PythonLiteral
    }

    /// - Returns: nil for anything else, and for a number beyond 64 bits.
    init?(_ text: some Sequence<UInt8>) {
        var parser = Parser(rest: Array(text)[...])
        guard let literal = parser.literal(depth: 0) else { return nil }
        parser.skipSpace()
        guard parser.rest.isEmpty else { return nil }
        self = literal
    }

    private struct Parser {
        var rest: ArraySlice<UInt8>

        mutating func skipSpace() { rest = rest.drop { [9, 10, 12, 13, 32].contains($0) } }

        /// Takes a character if it is the next one.
        mutating func take(_ character: Character) -> Bool {
            skipSpace()
            guard rest.first == character.asciiValue else { return false }
            rest.removeFirst()
            return true
        }

        mutating func literal(depth: Int) -> PythonLiteral? {
            skipSpace()
            guard depth < 16, let first = rest.first else { return nil }
            switch Character(Unicode.Scalar(first)) {
            case "'", "\"": return text()
            case "0"..."9": return whole()
            case "(":
                rest.removeFirst()
                guard let (items, hasComma) = items(until: ")", depth) else { return nil }
                // Brackets around one literal without a comma are only brackets.
                return items.count == 1 && !hasComma ? items[0] : .tuple(items)
            case "[":
                rest.removeFirst()
                return items(until: "]", depth).map { .list($0.items) }
            case "{":
                rest.removeFirst()
                return entries(depth).map { .dictionary($0) }
            default:
                for (name, value) in [("True", PythonLiteral.flag(true)), ("False", .flag(false)), ("None", .nothing)]
                where rest.starts(with: name.utf8) {
                    rest.removeFirst(name.utf8.count)
                    return value
                }
                return nil
            }
        }

        /// Escapes are in no name of a type.
        private mutating func text() -> PythonLiteral? {
            let quote = rest.removeFirst()
            guard let end = rest.firstIndex(where: { $0 == quote || $0 == 10 || $0 == 92 }), rest[end] == quote else {
                return nil
            }
            defer { rest = rest[(end + 1)...] }
            return .text(String(decoding: rest[..<end], as: UTF8.self))
        }

        private mutating func whole() -> PythonLiteral? {
            let digits = rest.prefix { (48...57).contains($0) }
            rest = rest[digits.endIndex...]
            // Python 2 wrote L behind its long integers.
            if rest.first == 76 { rest.removeFirst() }
            guard digits.count == 1 || digits.first != 48 else { return nil }
            return Int(String(decoding: digits, as: UTF8.self)).map { .whole($0) }
        }

        private mutating func items(
            until end: Character, _ depth: Int
        ) -> (items: [PythonLiteral], hasComma: Bool)? {
            var items: [PythonLiteral] = []
            var hasComma = false
            while !take(end) {
                guard items.isEmpty || hasComma, let item = literal(depth: depth + 1) else { return nil }
                items.append(item)
                hasComma = take(",")
            }
            return (items, hasComma)
        }

        private mutating func entries(_ depth: Int) -> [Entry]? {
            var entries: [Entry] = []
            var hasComma = true
            while !take("}") {
                guard hasComma, let key = literal(depth: depth + 1), take(":"),
                    let value = literal(depth: depth + 1)
                else { return nil }
                entries.append(Entry(key: key, value: value))
                hasComma = take(",")
            }
            return entries
        }
    }
}
