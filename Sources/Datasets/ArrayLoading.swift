import Distributions
import Graph
import Likelihood

extension Loader {
    mutating func loadArrays(isPictures: Bool = false) throws -> LoadedFiles {
        let layout = try ArrayLayout(arrays[0].shape, isPictures ? "chw" : files.layout, as: wanted, paths[0])
        for (i, path) in paths.enumerated() where arrays[i].shape.dropFirst() != arrays[0].shape.dropFirst() {
            throw FileError(
                path,
                "holds examples \(Array(arrays[i].shape.dropFirst())), but \(paths[0]) holds \(Array(arrays[0].shape.dropFirst()))"
            )
        }
        for i in arrays.indices {
            guard arrays[i].shape[0] > 0 else { throw FileError(paths[i], "holds no examples") }
            if layout.isChannelsLast { arrays[i].moveChannelsToFront() }
            arrays[i] = arrays[i].reshaped([arrays[i].shape[0], layout.dimensions.reduce(1, *)])
        }
        say(
            "examples are \(layout.isVideo ? "videos " : layout.dimensions.count == 3 ? "images " : "vectors ")\(layout.dimensions)"
        )
        let values = try domain(isImage: layout.dimensions.count == 3)
        if values == .real {
            // What a model standardises is of real numbers.
            for i in arrays.indices where arrays[i].type != .float32 {
                arrays[i] = HostArray(arrays[i].floats, shape: arrays[i].shape)
            }
        }
        var beside = try beside(arrays.map { $0.shape[0] })
        let partition = try partition([arrays[0]] + beside.arrays, "examples")
        try beside.arrange(partition) { notices.append($0) }
        let parts = Self.parts(&arrays, partition)
        var shape = ExampleShape(layout.dimensions, presentation: layout.isVideo ? .video : nil)
        if values == .real { shape.columns = try columns(of: parts[0], isVector: layout.dimensions.count == 1) }
        return try finish(parts, shape, values, partition, beside)
    }

    mutating func loadPictures() throws -> LoadedFiles {
        for i in contents.indices {
            guard case .pictures(var pictures) = contents[i] else { continue }
            contents[i] = .taken
            try noteFolders(pictures.names, paths[i])
            arrays.append(pictures.take())
            for notice in pictures.notices { say("\(paths[i]): \(notice)") }
        }
        if arrays.allSatisfy({ array in array.withUnsafeBytes { $0.allSatisfy { $0 == 0 || $0 == 255 } } }) {
            say("pixels are black or white, read as 0 and 1")
            for i in arrays.indices {
                arrays[i].withUnsafeMutableBytes { bytes in for k in bytes.indices { bytes[k] &= 1 } }
            }
        }
        return try loadArrays(isPictures: true)
    }

    /// What the values of all arrays are; refuses those that no model takes.
    private mutating func domain(isImage: Bool) throws -> VariableDomain {
        var range: ValueRange?
        let ranges = arrays.map { ValueRange($0) }
        for (path, (array, found)) in zip(paths, zip(arrays, ranges)) {
            let width = array.shape[1]
            if let bad = found.firstInfinite {
                throw FileError(
                    path,
                    "example \(bad / width), variable \(bad % width) is infinite, or beyond float32, which ends at 3.4e38; expected finite numbers"
                )
            }
            if let bad = found.firstMissing, files.missing == "refuse" {
                throw FileError(
                    path,
                    "example \(bad / width), variable \(bad % width) is not known (NaN); leave such examples out, or train on what is known with --missing marginalize"
                )
            }
            guard found.isWhole || !ranges[0].isWhole else {
                throw FileError(
                    path,
                    "holds numbers that are not whole, while \(paths[0]) holds whole numbers alone, from \(ranges[0].least) to \(ranges[0].most); expected values of one kind in all files"
                )
            }
            if range == nil { range = found } else { range!.merge(found) }
        }
        let all = range!
        guard all.least < all.most else {
            throw FileError(paths[0], "holds one value alone, \(all.least); there is nothing to learn")
        }
        let values = all.domain(isImage: isImage && arrays.allSatisfy { $0.type == .uint8 })
        switch values {
        case .binary: say("values are 0 and 1")
        case .levels(let n):
            let own = ranges[0].most
            let known = own < all.most ? "; \(paths[0]) has none above \(Int(own)), others up to \(Int(all.most))" : ""
            say("values are whole numbers, read as 0 to \(n - 1)\(known)")
        case .real, .table: say("values are real numbers from \(Float(all.least)) to \(Float(all.most))")
        }
        return values
    }

    /// Mean and deviation of every variable.
    private func columns(of train: HostArray, isVector: Bool) throws(FileError) -> [Column] {
        let moments = ColumnMoments(train)
        if isVector, wanted != .sequences, let bad = (0..<moments.count).first(where: moments.isConstant) {
            throw FileError(
                paths[0],
                "column \(bad + 1) holds \(moments.counts[bad] > 0 ? "\(moments.least[bad]) alone" : "nothing") in the training set; leave it out"
            )
        }
        return (0..<moments.count).map {
            let (mean, deviation) = moments.scaling($0)
            return Column("", .real(mean: mean, deviation: deviation))
        }
    }

    /// Keeps the folder that each file lies in, of a folder or an archive, where that is its class.
    mutating func noteFolders(_ names: [String], _ path: String) throws(FileError) {
        guard files.labels == "folders" else { return }
        let found = try names.map { name throws(FileError) in
            let parts = name.dropFirst(name.hasPrefix(path + "/") ? path.count + 1 : 0).split(separator: "/")
            guard parts.count >= 2 else {
                throw FileError(name, "lies in no folder that names its class; put each class into a folder of its own")
            }
            return String(parts[parts.count - 2])
        }
        folders = (folders ?? []) + [found]
    }

    /// Labels and features of files or of an archive's arrays.
    /// - Parameter counts: of the examples of each path.
    mutating func beside(_ counts: [Int]) throws -> Beside {
        var beside = Beside()
        if let folders {
            beside.raw = RawLabels(names: folders, of: "folders", paths[0])
        } else if !files.labels.isEmpty {
            beside.raw = try reader.labels(files.labels, paths, counts)
        }
        if !files.context.isEmpty { beside.features = try reader.features(files.context, paths, counts) }
        return beside
    }
}
