/// FNV-1a, the same on every machine and in every run: the random stream that belongs to a name.
public func stableHash(_ text: String) -> UInt32 {
    text.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 }
}
