#if canImport(Glibc)
    import Glibc
#endif

/// What a reader finds odd about a file that it reads all the same.
public enum Notice {
    /// Says it in one line on standard error.
    public static func show(_ path: String, _ message: String) {
        write("note: \(printable("\(path): \(message)"))\n")
    }

    static func write(_ text: String) {
        let bytes = Array(text.utf8)
        _ = bytes.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// One line that a terminal shows as it stands: names and files may hold line breaks and control characters.
    public static func printable(_ text: String) -> String { escaped(text) { $0.escaped(asASCII: true) } }

    /// Text whose characters that a terminal does not show, but obeys, are written in another way.
    public static func escaped(_ text: String, _ escape: (Unicode.Scalar) -> String) -> String {
        text.unicodeScalars.reduce(into: "") { line, scalar in
            if isShown(scalar) { line.unicodeScalars.append(scalar) } else { line += escape(scalar) }
        }
    }

    /// Whether a terminal shows a character, and does nothing else.
    public static func isShown(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: false
        default: true
        }
    }
}

/// A bar on a terminal while a large file is read.
struct ReadingBar {
    private let name: String
    private let total: Int
    private let isShown: Bool

    init(_ path: String, total: Int) {
        (name, self.total) = (path, total)
        isShown = total >= 1 << 25 && isatty(STDERR_FILENO) == 1
    }

    func show(_ done: Int) {
        let filled = 24 * done / max(1, total)
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 24 - filled)
        write("\r\u{1B}[K\(Notice.printable(name)) \(bar) \(done >> 20) of \(total >> 20) MiB")
    }

    func end() { write("\r\u{1B}[K") }

    private func write(_ text: String) {
        if isShown { Notice.write(text) }
    }
}
