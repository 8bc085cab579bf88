import Graph

/// What a `.npy` file says of itself before its elements begin.
struct NumPyHeader {
    enum Element {
        case stored(ElementType)
        /// Read as int32.
        case integer(isSigned: Bool)
        /// Read as float32.
        case half
    }

    let shape: [Int]
    let element: Element
    /// Bytes of an element.
    let width: Int
    let isFortran: Bool
    let count: Int

    /// What it says of the elements.
    var words: String { "\(shape) of \(width) bytes each" }

    /// Reads up to where the elements begin.
    init(_ stream: ByteStream) throws(FileError) {
        let path = stream.name
        let front = try stream.read(upTo: 8)
        guard front.count == 8, front[..<6] == [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59] else {
            throw FileError(path, "expected a NumPy array (.npy), found something else; save it with numpy.save")
        }
        guard (1...3).contains(front[6]), front[7] == 0 else {
            throw FileError(path, "expected version 1.0, 2.0 or 3.0 of the .npy format, found \(front[6]).\(front[7])")
        }
        let digits = try stream.read(upTo: front[6] == 1 ? 2 : 4)
        let length = digits.reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= 1 << 20 else { throw FileError(path, "claims a header of \(length) bytes") }
        let text = try stream.read(upTo: length)
        guard digits.count == (front[6] == 1 ? 2 : 4), text.count == length else {
            throw FileError(path, "ends within its header")
        }
        let fields = try Self.fields(text, path)
        guard case .flag(let isFortran)? = fields["fortran_order"] else {
            throw FileError(path, "its fortran_order is neither True nor False")
        }
        guard case .tuple(let extents)? = fields["shape"] else {
            throw FileError(path, "its shape is not a tuple of whole numbers, as (2, 3)")
        }
        self.isFortran = isFortran
        shape = try extents.map { extent throws(FileError) in
            guard case .whole(let extent) = extent else { throw FileError(path, "its shape is not made of numbers") }
            return extent
        }
        // Without the zeros, so that the extents of a part do not overflow either.
        var count = 1
        for extent in shape where extent > 0 {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard !overflow, product <= 1 << 40 else { throw FileError(path, "its shape \(shape) is too large") }
            count = product
        }
        self.count = shape.contains(0) ? 0 : count
        (element, width) = try Self.type(fields["descr"]!, path)
    }

    /// The dictionary, which has exactly the three keys that NumPy asks for.
    private static func fields(_ text: [UInt8], _ path: String) throws(FileError) -> [String: PythonLiteral] {
        let names = ["descr", "fortran_order", "shape"]
        guard case .dictionary(let entries)? = PythonLiteral(text),
            entries.map(\.key).sorted(by: { "\($0)" < "\($1)" }) == names.map({ .text($0) })
        else {
            throw FileError(
                path,
                "its header is not a dictionary of exactly descr, fortran_order and shape: \(String(decoding: text.prefix(80), as: UTF8.self))"
            )
        }
        return Dictionary(
            uniqueKeysWithValues: names.map { name in (name, entries.first { $0.key == .text(name) }!.value) })
    }

    private static func type(
        _ descriptor: PythonLiteral, _ path: String
    ) throws(FileError) -> (element: Element, width: Int) {
        guard case .text(let name) = descriptor else {
            let fields = if case .list(let fields) = descriptor { fields } else { [] as [PythonLiteral] }
            let names = fields.compactMap { field -> String? in
                if case .tuple(let parts) = field, case .text(let name)? = parts.first { name } else { nil }
            }
            throw FileError(
                path,
                "is a structured array\(names.isEmpty ? "" : " of the fields \(names.joined(separator: ", "))"); save an array of numbers, one column for each field"
            )
        }
        let types: [String: (Element, Int)] = [
            "u1": (.stored(.uint8), 1), "b1": (.stored(.bool), 1), "?": (.stored(.bool), 1), "f2": (.half, 2),
            "f4": (.stored(.float32), 4), "f8": (.stored(.float64), 8), "i1": (.integer(isSigned: true), 1),
            "i2": (.integer(isSigned: true), 2), "i4": (.stored(.int32), 4), "i8": (.integer(isSigned: true), 8),
            "u2": (.integer(isSigned: false), 2), "u4": (.integer(isSigned: false), 4),
            "u8": (.integer(isSigned: false), 8),
        ]
        let order = name.first.flatMap { "<>|=".contains($0) ? $0 : nil }
        guard let found = types[order == nil ? name : String(name.dropFirst())], order != ">" || found.1 == 1 else {
            throw FileError(
                path,
                "holds elements of type “\(name)”; convert them to uint8, int32, float32 or float64 (little-endian)")
        }
        return found
    }
}
