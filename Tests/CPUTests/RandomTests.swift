import Foundation
import Kernels
import Testing

/// The generator that every backend shares.
@Suite struct RandomTests {
    /// The known answers of Random123 (Salmon et al. 2011), file `kat_vectors`.
    @Test func philoxKnownAnswers() {
        let cases: [(key: [UInt32], counter: [UInt32], words: [UInt32])] = [
            ([0, 0], [0, 0, 0, 0], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            (
                [0xffff_ffff, 0xffff_ffff], [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
            ),
            (
                [0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
            ),
        ]
        for (key, counter, expected) in cases {
            var words = [UInt32](repeating: 0, count: 4)
            martlet_philox_block(key, counter, &words)
            #expect(words == expected)
            #expect(martlet_philox_word0(key[0], key[1], counter[0], counter[1], counter[2], counter[3]) == expected[0])
        }
    }

    @Test func uniformIsExactAndBelowOne() {
        #expect(martlet_uniform_from_bits(0) == 0)
        #expect(martlet_uniform_from_bits(0xff) == 0)
        #expect(martlet_uniform_from_bits(0x100) == 0x1p-24)
        #expect(martlet_uniform_from_bits(0x8000_0000) == 0.5)
        #expect(martlet_uniform_from_bits(.max) == 1 - 0x1p-24)
    }

    /// Quantiles computed by mpmath with 40 digits (Scripts/fit_normal.py).
    @Test(
        arguments: [
            (0x0000_0000, -6.3379577545537893), (0x0000_0001, -6.1664295178197502), (0x0000_0002, -6.085104545783031),
            (0x0000_0003, -6.0309670191182521), (0x0000_0064, -5.4630625543895387),
            (0x7fff_ffff, -2.9180993729166227e-10),
            (0x7fff_fffe, -8.754298118749868e-10), (0x4000_0000, -0.67448974982973843),
            (0x3fff_ffff, -0.67448975056242505),
            (0x6000_0000, -0.31863936365736888), (0x7ff0_0000, -0.00061196953999892865),
            (0x00bc_614e, -2.7617695198594858),
            (0x4fbb_3e22, -0.49174206924160129), (0x20b2_6c1c, -1.1372231377373002),
            (0x5ef2_e04c, -0.32948782833633518),
            (0x16f2_3eef, -1.3430130247626491), (0x1972_39c6, -1.2849825233192569), (0x0586_08fe, -2.0222267918402278),
            (0x0078_a235, -2.9042410332429739), (0x0003_5db5, -3.8840666800582142), (0x0000_05eb, -4.9597857534276255),
            (0x0000_0014, -5.7386032407317863),
        ] as [(UInt32, Double)])
    func normalQuantiles(bits: UInt32, quantile: Double) {
        let z = Double(martlet_normal_from_bits(bits))
        #expect(abs(z / quantile - 1) < 1.3e-7)
        #expect(martlet_normal_from_bits(~bits) == Float(-z))
    }

    @Test func normalIsOddFiniteAndMonotonicAcrossPieces() {
        var previous = -Float.infinity
        // A few values around every power of two and every quarter between, where pieces meet.
        var points: Set<UInt32> = []
        for shift in 0..<31 {
            for quarter in 4..<8 {
                let edge = (UInt64(quarter) << UInt64(shift)) >> 2
                for step in 0..<5 { points.insert(UInt32(clamping: max(0, Int64(edge) + Int64(step) * 9 - 18))) }
            }
        }
        for bits in points.sorted() where bits < 1 << 31 {
            let z = martlet_normal_from_bits(bits)
            #expect(z.isFinite && z < 0 && z >= -6.34)
            // Rounding may let neighbours step back by an ulp or two, never by more.
            #expect(z >= previous - 4 * abs(z).ulp)
            previous = max(previous, z)
            #expect(martlet_normal_from_bits(~bits) == -z)
        }
    }

    /// Moments and the Kolmogorov-Smirnov distance of 200 000 draws, with bounds that chance passes once in 1e4 or less.
    @Test func normalDistribution() {
        let count = 200_000
        var draws = (0..<count).map { index in
            Double(
                martlet_normal_from_bits(martlet_philox_word0(7, 11, UInt32(index % 1000), UInt32(index / 1000), 3, 1)))
        }
        let n = Double(count)
        let mean = draws.reduce(0, +) / n
        let variance = draws.reduce(0) { $0 + $1 * $1 } / n
        let skew = draws.reduce(0) { $0 + $1 * $1 * $1 } / n
        let fourth = draws.reduce(0) { $0 + $1 * $1 * $1 * $1 } / n
        #expect(abs(mean) < 4 / n.squareRoot())
        #expect(abs(variance - 1) < 4 * (2 / n).squareRoot())
        #expect(abs(skew) < 4 * (15 / n).squareRoot())
        #expect(abs(fourth - 3) < 4 * (96 / n).squareRoot())
        draws.sort()
        var distance = 0.0
        for (index, z) in draws.enumerated() {
            let p = erfc(-z / 2.0.squareRoot()) / 2
            distance = max(distance, p - Double(index) / n, Double(index + 1) / n - p)
        }
        #expect(distance * n.squareRoot() < 2.3)
    }
}

func philox(key: (UInt32, UInt32), counter: (UInt32, UInt32, UInt32, UInt32)) -> UInt32 {
    martlet_philox_word0(key.0, key.1, counter.0, counter.1, counter.2, counter.3)
}
func uniformFromBits(_ bits: UInt32) -> Float { martlet_uniform_from_bits(bits) }
func normalFromBits(_ bits: UInt32) -> Float { martlet_normal_from_bits(bits) }
