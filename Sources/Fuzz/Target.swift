import Datasets
import Graph
import Likelihood
import Models
import Training

/// A reader, and the files that it takes.
struct Target: Sendable {
    let name: String
    /// What the file is called.
    let file: String
    let seeds: [[UInt8]]
    var tokens: [String] = []
    /// Puts what was damaged into a file that is whole around it.
    var wrap: @Sendable ([UInt8]) -> [UInt8] = { $0 }
    /// Reads the file; the bytes of what it held.
    let read: @Sendable (_ path: String) throws -> Int

    static let all: [Target] = [
        npy, npz, idx, idxGzip, csv, table, png, wav, tar, tarXZ, safetensors, text, config, metrics,
    ]

    // MARK: arrays

    private static func header(_ type: String, _ shape: String, isFortran: Bool = false, _ body: [UInt8]) -> [UInt8] {
        let text = "{'descr': '\(type)', 'fortran_order': \(isFortran ? "True" : "False"), 'shape': \(shape), }\n"
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.utf8.count), 0] + Array(text.utf8) + body
    }

    private static let npySeeds = [
        header("<f4", "(2, 3)", [UInt8](repeating: 63, count: 24)),
        header("<f8", "(3,)", [UInt8](repeating: 1, count: 24)),
        header("|u1", "(2, 3, 4)", isFortran: true, [UInt8](repeating: 1, count: 24)),
        header("<i8", "(2,)", [UInt8](repeating: 0, count: 16)), header("<f2", "()", [0, 60]),
        header("|b1", "(4,)", [0, 1, 1, 0]), header("<u2", "(0, 5)", []),
    ]

    private static let npyTokens = [
        "True", "False", "(", ")", "[('a', '<f4')]", "'shape'", "'descr'", "L", ",", "<f8", ">i4",
    ]

    static let npy = Target(name: "npy", file: "a.npy", seeds: npySeeds, tokens: npyTokens) {
        try NumPy.read(npy: $0).bytes.count
    }

    static let npz = Target(
        name: "npz", file: "a.npz",
        seeds: npySeeds + [
            Container.zip([("train.npy", npySeeds[0]), ("valid.npy", npySeeds[1]), ("note.txt", [65])])
        ],
        tokens: npyTokens,
        wrap: { bytes in
            bytes.starts(with: [0x93]) ? Container.zip([("train.npy", bytes), ("test.npy", npySeeds[0])]) : bytes
        }
    ) {
        try NumPy.read(npz: $0).values.reduce(0) { $0 + $1.bytes.count }
    }

    private static let idxSeeds: [[UInt8]] = [
        [0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3, 4], [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8],
    ]

    static let idx = Target(name: "idx", file: "a.idx", seeds: idxSeeds) { try IDX.read($0).bytes.count }

    static let idxGzip = Target(
        name: "idx.gz", file: "a.idx.gz", seeds: idxSeeds + idxSeeds.map(Container.gzip),
        wrap: { $0.starts(with: [0x1F, 0x8B]) ? $0 : Container.gzip($0) }
    ) { try IDX.read($0).bytes.count }

    static let csv = Target(
        name: "csv", file: "a.csv",
        seeds: [
            "x,y\n1,2\n3,4.5e-3\n", "\u{FEFF}\"1\",2\r\n3, \"4.5\"\r\n", ",a,b\n0,1,2\n1,3,4\n2,5,6\n",
            "0.1\n\n-7e12\nnan\n",
            "1;2\n", "12345678901234567890.123456789,1e-45\n3.4e38,inf\n",
        ].map { Array($0.utf8) },
        tokens: [",", "\n", "\r", "\"", "\"\"", "e", ".", "-", "NA", "\u{2028}", "\u{B}", "\0", "inf"]
    ) { try CSV.read($0).bytes.count }

    /// Tables of any kind, up to the examples that are made of them.
    static let table = Target(
        name: "table", file: "b.csv",
        seeds: [
            "a;b;c\n1,5;x;0\n2,5;y;1\n3,5;x;0\n4,5;y;1\n",
            ",v,\"n, m\"\n0,1.5,a\n1,NA,b\n2,3.5,\"a\"\n3,4.5,b\n4,7,a\n",
            " 1.5 2 3\n 4.5  5 6\n7.25\t8 9\n1e3 2 1\n", "p,x\np,y\ne,x\ne,y\n", "0,1,2\n5,6,7\n5,1,8\n9,9,9\n",
            "0,1,16\n16,0,0\n3,16,15\n1,2,16\n",
        ].map { Array($0.utf8) },
        tokens: [
            ",", ";", "\t", " ", "\n", "\r", "\"", "\"\"", "NA", "?", "id", "1,5", "\u{FEFF}", "inf", "nan", "1e40",
            "0", "x",
        ]
    ) { path in
        var files = DataFiles()
        (files.train, files.missing, files.split) = (path, "marginalize", "50/25/25")
        return try files.load(seed: 1).dataset.train.byteCount
    }

    // MARK: pictures and sounds

    static let png = Target(
        name: "png", file: "a.png",
        seeds: [
            Container.png(width: 2, height: 2, depth: 8, colour: 0, [[1, 2], [3, 4]]),
            Container.png(
                width: 2, height: 2, depth: 16, colour: 4, [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]]),
            Container.png(width: 2, height: 2, depth: 1, colour: 3, [[64], [128]], palette: [1, 2, 3, 4, 5, 6]),
            Container.png(
                width: 2, height: 2, depth: 8, colour: 6, [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8]],
                extra: [("gAMA", [0, 0, 0xB1, 0x8F]), ("tEXt", [65, 0, 66])]),
        ], tokens: ["IHDR", "PLTE", "IDAT", "IEND", "tRNS", "gAMA", "iCCP"],
        wrap: Container.withSums
    ) { path in
        let isGrey = try Files.read(path).dropFirst(25).first.map { $0 & 2 == 0 } ?? true
        return try LoadedFiles.read(path, like: [isGrey ? 1 : 3, 2, 2], values: .levels(256)).byteCount
    }

    private static func wave(_ format: [Int], extra: [UInt8] = [], size: Int? = nil, front: [UInt8] = []) -> [UInt8] {
        let samples: [UInt8] = [1, 0, 254, 255, 44, 1, 0, 128]
        let little = Container.little
        let chunk =
            little([format[0], format[1]], 2) + little([8000, 16000], 4)
            + little([format[2], format.count > 3 ? format[3] : 16], 2) + extra
        return Array("RIFF".utf8) + little([size ?? 36 + samples.count], 4) + Array("WAVEfmt ".utf8)
            + little([chunk.count], 4) + chunk + front + Array("data".utf8) + little([size ?? samples.count], 4)
            + samples
    }

    static let wav = Target(
        name: "wav", file: "a.wav",
        seeds: [
            wave([1, 1, 2]), wave([1, 2, 4]), wave([1, 1, 1, 8]), wave([1, 1, 3, 24]), wave([1, 1, 4, 32]),
            wave([3, 1, 4, 32]),
            wave([3, 1, 8, 64]),
            wave([1, 1, 2], size: 0xFFFF_FFFF, front: Array("LIST".utf8) + [2, 0, 0, 0, 65, 65]),
            wave([1, 1, 2], size: 0),
            wave(
                [0xFFFE, 1, 2],
                extra: [22, 0, 16, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 16, 0, 128, 0, 0, 170, 0, 56, 155, 113]),
        ], tokens: ["RIFF", "fmt ", "data", "LIST", "RF64"]
    ) { try Sound.read(wav: Files.read($0), name: $0).samples.count * 2 }

    private static let tarSeeds = [
        Container.tar([("a.wav", [1, 2, 3]), ("b.txt", [UInt8](repeating: 65, count: 700)), ("c.wav", [])]),
        Container.tar([(String(repeating: "folder/", count: 12) + "a.wav", [UInt8](repeating: 9, count: 512))]),
    ]

    @Sendable private static func count(_ path: String) throws -> Int {
        try Archive.files(path, suffix: ".wav").reduce(0) { $0 + $1.bytes.count }
    }

    static let tar = Target(
        name: "tar", file: "a.tar", seeds: tarSeeds, tokens: ["L", "x", "30 path=a.wav\n", "77777777777", "\0"],
        wrap: Container.withChecksums, read: count)

    static let tarXZ = Target(
        name: "tar.xz", file: "a.tar.xz", seeds: tarSeeds + tarSeeds.map(Container.xz),
        wrap: { $0.starts(with: [0xFD, 0x37]) ? $0 : Container.xz(Container.withChecksums($0)) }, read: count)

    // MARK: runs

    private static func tensors(_ header: String, _ body: [UInt8]) -> [UInt8] {
        Container.little([header.utf8.count], 8) + Array(header.utf8) + body
    }

    static let safetensors = Target(
        name: "safetensors", file: "a.safetensors",
        seeds: [
            tensors(
                #"{"__metadata__":{"step":"7"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]}}  "#,
                [UInt8](repeating: 1, count: 12)),
            tensors(#"{"i":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#, [UInt8](repeating: 0, count: 8)),
            tensors("{}", []),
        ],
        tokens: [
            "{", "}", "[", "]", "\"", "\\u0061", "\\", "null", "F16", "U8", "BOOL", "\"dtype\":", "\"shape\":",
            "__metadata__",
        ],
        wrap: { bytes in
            // The length of the header, made right where its end can be found.
            guard bytes.count > 8, let end = bytes.lastIndex(of: UInt8(ascii: "}")), end >= 8 else { return bytes }
            return Container.little([end - 7], 8) + bytes[8...]
        }
    ) { try SafeTensors.read($0).arrays.values.reduce(0) { $0 + $1.bytes.count } }

    static let text = Target(
        name: "text", file: "a.txt", seeds: [Array("To be, or not to be\n".utf8), [0, 255, 128]],
        tokens: ["\u{FEFF}", "é"]
    ) { path in
        let text = try Files.read(path)
        // Half of the text has the symbols of all of it, or says which it lacks.
        return try Alphabet(of: Array(text.prefix(text.count / 2))).encode(text, name: path).count
    }

    private static let json = ["{", "}", "[", "]", "\"", ":", ",", "null", "true", "1e999", "-", "\\u0000", "\\uD800"]

    static let config = Target(
        name: "config.json", file: "config.json",
        seeds: [
            #"{"experiment":"made","settings":{"hidden":[8],"batch":10,"learningRate":0.001,"beta1":"default","seed":18446744073709551615,"optimizer":"adam"},"examples":{"dimensions":[1,2,2],"presentation":{"sound":{"rate":8000}}},"dataFolder":"data","device":"cpu"}"#
        ].map { Array($0.utf8) },
        tokens: json + ["hidden", "batch", "muon", "own", "[[[[[[[[[[", "dimensions", "classes"]
    ) { path in
        let stored = try RunFolder(String(path.dropLast("/config.json".count))).readConfig()
        let configuration = try stored.configuration(
            preset: RunConfiguration(MADE.Settings(), experiment: "made"), path: path)
        try configuration.validate(stored.examples)
        return 0
    }

    static let metrics = Target(
        name: "metrics.jsonl", file: "metrics.jsonl",
        seeds: [Array((0..<3).map { #"{"epoch":\#($0),"train":1.5,"valid":2.5}"# + "\n" }.joined().utf8), []],
        tokens: json
    ) { path in
        try RunFolder(String(path.dropLast("/metrics.jsonl".count))).isFresh() ? 0 : 1
    }
}
