import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    static let sequenceModels: [Experiment] = [waveNetDigits, byteNetShakespeare, byteNetReversal]

    /// Spoken digits at 8 kHz; the test recordings are those numbered 0 to 4.
    static let waveNetDigits = Experiment(
        name: "wavenet-digits", summary: "WaveNet on spoken digits, 8 kHz mu-law, beside Markov models",
        paper: "van den Oord et al. 2016", paperNats: nil,
        configuration: RunConfiguration(
            WaveNet.Settings {
                $0.residual = 32
                $0.skip = 64
                $0.stacks = 2
                $0.layers = 8
            }
        ) {
            $0.epochs = 3
            $0.batch = 4
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.samples = 4
            $0.validationExamples = 64
        },
        load: { _, folder in
            let steps = 4000
            let recordings = try soundFiles("\(folder)/fsdd")
            var splits: [[UInt8]] = [[], [], []]
            for (name, bytes) in recordings {
                let (samples, rate) = try Sound.read(wav: bytes, name: name)
                guard rate == 8000 else { throw FileError(name, "is at \(rate) Hz; expected 8000") }
                // digit_speaker_number.wav
                let base = name.split(separator: "/").last.map(String.init) ?? name
                guard let number = Int(base.dropLast(4).split(separator: "_").last ?? "") else {
                    throw FileError(name, "expected a name as 7_jackson_32.wav")
                }
                splits[number < 5 ? 2 : number < 7 ? 1 : 0] += samples.map {
                    UInt8(Sound.muLaw(Double($0)))
                }
            }
            let windows = splits.map { codes in
                HostArray(Array(codes.prefix(codes.count / steps * steps)), shape: [codes.count / steps, steps])
            }
            guard windows.allSatisfy({ $0.shape[0] > 0 }) else {
                throw FileError(
                    "\(folder)/fsdd",
                    "has fewer than \(steps) samples to train on, to validate or to test; put all recordings there")
            }
            let dataset = try Dataset(name: "fsdd", train: windows[0], valid: windows[1], test: windows[2])
            var data = ExperimentData(dataset)
            data.presentation = .sound(rate: 8000)
            data.baselines = { _ in (1...3).map { Baselines.markov(dataset, levels: 256, order: $0) } }
            return data
        })

    /// Characters of Shakespeare; the first nine tenths train, the rest validates and tests.
    static let byteNetShakespeare = Experiment(
        name: "bytenet-shakespeare", summary: "ByteNet's decoder on the characters of tiny Shakespeare",
        paper: "Kalchbrenner et al. 2016", paperNats: nil,
        configuration: RunConfiguration(
            ByteNet.Settings {
                $0.levels = 65
                $0.channels = 192
                $0.dropout = 0.1
            }
        ) {
            $0.epochs = 12
            $0.batch = 16
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.samples = 4
        },
        load: { _, folder in
            let steps = 500
            let path = "\(folder)/tiny_shakespeare/input.txt"
            guard Files.exists(path) else {
                throw FileError(
                    path,
                    "is not there. It is input.txt of github.com/karpathy/char-rnn; put it there, or name another folder with --data"
                )
            }
            let text = try Files.read(path, limit: 1 << 30)
            let alphabet = Alphabet(of: text)
            let symbols = try alphabet.encode(text, name: path)
            guard alphabet.count == 65, symbols.count > 20 * steps else {
                throw FileError(
                    path, "has \(alphabet.count) characters in \(symbols.count); expected 65 of tiny Shakespeare")
            }
            let border = symbols.count / 10 * 9
            @Sendable func windows(_ part: ArraySlice<UInt8>) -> HostArray {
                HostArray(Array(part.prefix(part.count / steps * steps)), shape: [part.count / steps, steps])
            }
            let held = windows(symbols[border...])
            let dataset = try Dataset(
                name: "tiny shakespeare", train: windows(symbols[..<border]), valid: held, test: held)
            var data = ExperimentData(dataset)
            // Every epoch cuts the text elsewhere.
            data.trainingExamples = { epoch in
                let offset = Int(HostRandom(seed: 7, stream: "windows").bits(example: epoch) % UInt32(steps))
                return windows(symbols[offset..<border])
            }
            data.presentation = .text(alphabet)
            data.baselines = { _ in (1...3).map { Baselines.markov(dataset, levels: 65, order: $0) } }
            return data
        })

    /// A transduction that is easy to check: the target is the source read backwards.
    static let byteNetReversal = Experiment(
        name: "bytenet-reversal", summary: "ByteNet with an encoder: the target is the source read backwards",
        paper: "Kalchbrenner et al. 2016", paperNats: nil,
        configuration: RunConfiguration(
            ByteNet.Settings {
                $0.levels = 8
                $0.channels = 64
                $0.encoder = true
            }
        ) {
            $0.epochs = 10
            $0.batch = 50
            $0.learningRate = 0.003
            $0.schedule = .cosine
            $0.samples = 8
        },
        load: { _, _ in
            let length = 16
            func pairs(_ count: Int, _ stream: String) -> HostArray {
                let random = HostRandom(seed: 3, stream: "reversal.\(stream)")
                return HostArray(
                    (0..<count).flatMap { row -> [UInt8] in
                        let source = (0..<length).map { UInt8(random.bits(example: row, variable: $0) % 8) }
                        return source + source.reversed()
                    }, shape: [count, 2 * length])
            }
            var data = ExperimentData(
                try Dataset(
                    name: "reversal", train: pairs(5000, "train"), valid: pairs(500, "valid"), test: pairs(500, "test"))
            )
            data.presentation = .text(Alphabet(bytes: Array("abcdefgh".utf8)))
            // The source is uniform; the target holds nothing new.
            data.optimum = { rows in [Double](repeating: -Double(length) * Math.log(8), count: rows.shape[0]) }
            return data
        })
}

/// Wav files of a folder's archive (.tar, .tar.xz), or of the folder itself.
private func soundFiles(_ folder: String) throws -> [(name: String, bytes: [UInt8])] {
    for name in ["fsdd_recordings.tar.xz", "fsdd_recordings.tar"] where Files.exists("\(folder)/\(name)") {
        return try Archive.files("\(folder)/\(name)", suffix: ".wav").sorted { $0.name < $1.name }
    }
    let names = Files.isFolder(folder) ? try Files.list(folder).filter { $0.hasSuffix(".wav") } : []
    guard !names.isEmpty else {
        throw FileError(
            folder,
            "has neither fsdd_recordings.tar.xz nor wav files. They are the recordings of the free spoken digit dataset (github.com/Jakobovski/free-spoken-digit-dataset); put them there, or name another folder with --data"
        )
    }
    return try names.sorted().map { ($0, try Files.read("\(folder)/\($0)")) }
}
