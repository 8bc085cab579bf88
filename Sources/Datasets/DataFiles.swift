import Distributions
import Graph
import Likelihood

/// The files that a person brings, and how they are to be read. A run keeps them by name among its settings.
public struct DataFiles: Codable, Sendable, Equatable {
    /// Training examples: an array (npy, npz, `file.npz:member`, idx), a table, a text, or a folder or tar of images, sounds or texts.
    public var train = ""
    /// Validation and test examples; where there are none, the training examples are split.
    public var valid = ""
    public var test = ""
    /// The classes of the examples: a file, several separated by commas (of train, valid and test), or the column of a table.
    public var labels = ""
    /// Real numbers that are known beside each example: files likewise, or columns of a table separated by commas.
    public var context = ""
    /// Percent of the examples that train, validate and test, where one file has all of them.
    public var split = "80/10/10"
    /// What the axes of an array are: `vectors`, `hw`, `hwc`, `chw` or `video`; found out if empty.
    public var layout = ""
    /// Steps of the windows that sounds and texts are cut into; 0 takes 4000 samples or 500 characters.
    public var window = 0
    /// What is done about cells of a table that hold nothing: `refuse` or `marginalize`.
    public var missing = "refuse"
    /// The column of a table that holds the weight of each row.
    public var weightsColumn = ""

    public init() {}
}

/// What the examples of a model are made of.
public enum ExampleKind: String, Sendable, CaseIterable { case vectors, images, sequences, videos }

/// Examples as they were read, and what was found out about them.
public struct LoadedFiles: Sendable {
    public var dataset: Dataset
    /// With columns, where examples are rows of a table or hold real numbers.
    public var examples: ExampleShape
    /// What the variables hold.
    public var values: VariableDomain
    /// The rows of the one file that each part of the split has, ascending; `nil` where the parts came in files of their own.
    public var rows: [Dataset.Split: [Int]]?
    /// The files, each with its size in bytes and the checksum of its content.
    public var sources: [Source]

    public struct Source: Codable, Sendable, Equatable {
        public let path: String
        public let bytes: Int
        /// CRC-64 of the content, in hexadecimal digits.
        public let checksum: String
    }
}

extension ExampleShape {
    /// The shape of rows of real numbers `[rows, variables]` that a model is to standardise by their means and deviations: its figures are
    /// then densities in the units of the rows.
    public init(standardizing rows: HostArray) {
        let floats = HostArray(rows.floats, shape: rows.shape)
        let moments = ColumnMoments(floats)
        self.init(
            [rows.shape.dropFirst().reduce(1, *)],
            columns: (0..<moments.count).map {
                let (mean, deviation) = moments.scaling($0)
                return Column("", .real(mean: mean, deviation: deviation))
            })
    }
}
