/// The tile that a work-group of 256 makes of a product or a convolution on a GPU. Sums run over k in order, whatever the tile, so
/// results do not depend on it.
struct GPUTile: Equatable {
    /// Rows and columns.
    let size: Int
    /// Terms of the sums that pass through local memory at a time: more where a tile is small, as a slice takes the time of a load from
    /// memory at least.
    let depth: Int

    static let all = [
        GPUTile(size: 128, depth: 8), GPUTile(size: 64, depth: 16), GPUTile(size: 32, depth: 32),
        GPUTile(size: 16, depth: 64),
    ]

    /// Instructions of a work-item for each term, as Kernels/product_gpu.cl assembles for NVIDIA (small tiles by their multiply-adds and
    /// loads).
    private var instructions: Double {
        switch size {
        case 128: 78
        case 64: 22
        case 32: 7.5
        default: 3.5
        }
    }

    /// About as many cycles as a term of all sums takes: eight warps of a group at four instructions a cycle, one group after another on
    /// each unit, or the time of a load for each slice. A large tile does least in all, small ones use more units.
    private func cycles(groups: Int, units: Int) -> Double {
        max(700 / Double(depth), Double((groups + units - 1) / units) * instructions * 2)
    }

    /// The tile that takes least time for some matrices of the same size.
    /// - Parameter fits: whether the kernel can be written for it.
    static func best(
        rows: Int, columns: Int, count: Int, units: Int, fits: (GPUTile) -> Bool = { _ in true }
    ) -> GPUTile {
        func cycles(_ tile: GPUTile) -> Double {
            let groups = ((rows + tile.size - 1) / tile.size) * ((columns + tile.size - 1) / tile.size) * count
            return tile.cycles(groups: groups, units: units)
        }
        return all.filter(fits).min { cycles($0) < cycles($1) }!
    }
}
