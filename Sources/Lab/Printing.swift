import Datasets
import FoundationEssentials

#if canImport(Glibc)
    import Glibc
#endif

// Everything that the program prints goes through these functions. Names of files, cells of tables and settings may hold line breaks and
// control characters, which must neither move a terminal's cursor nor look like lines of the program's own.

/// Prints a line on standard output.
func printLine(_ text: String) { print(Notice.printable(text)) }

/// Prints a line on standard error.
func errorLine(_ text: String) { errorText(Notice.printable(text) + "\n") }

/// Writes to standard error as it stands: for the progress bar alone, which moves the cursor.
func errorText(_ text: String) {
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
}

/// Prints a value as one line of JSON.
func printJSON<T: Encodable>(_ value: T) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // The mean of densities one of which is zero is no number of JSON.
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
        positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    let json = String(decoding: try encoder.encode(value), as: UTF8.self)
    print(Notice.escaped(json) { scalar in String(scalar).utf16.map { "\\u" + hexadecimal($0) }.joined() })
}

private func hexadecimal(_ unit: UInt16) -> String {
    let digits = String(unit, radix: 16)
    return String(repeating: "0", count: 4 - digits.count) + digits
}
