//! Sizes as etcdutl prints them.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// `len_bytes` in decimal units, as `Bytes` of github.com/dustin/go-humanize 1.0 (what `snapshot status` shows): one
/// decimal below ten of a unit, none above, half up to a tenth, then half to even.
///
/// The unit comes from a quotient of logarithms, so like the original it says `1000 MB` for a size whose quotient
/// falls just short of a whole number.
pub fn bytes(len_bytes: u64) -> String {
    if len_bytes < 10 {
        return format!("{len_bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "the original computes in f64 too")]
    let size = len_bytes as f64;
    let exponent = (size.ln() / 1000f64.ln()).floor();
    let (mut unit, mut power) = (0, 0f64);
    while power + 1.0 <= exponent && unit + 1 < UNITS.len() {
        unit += 1;
        power += 1.0;
    }
    let value = (size / 1000f64.powf(power) * 10.0 + 0.5).floor() / 10.0;
    let name = UNITS.get(unit).copied().unwrap_or("EB");
    if value < 10.0 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn prints_what_etcdutl_prints() {
        for (size, text) in [
            // As etcdutl 3.5.1 to 3.7.1 and etcdctl 3.4.23 printed it for a file of this size.
            (233_504, "234 kB"),
            // By the rule, at its edges.
            (0, "0 B"),
            (1, "1 B"),
            (9, "9 B"),
            (10, "10 B"),
            (803, "803 B"),
            (999, "999 B"),
            (1_024, "1.0 kB"),
            (9_999, "10 kB"),
            (999_999, "1000 kB"),
            (1_048_576, "1.0 MB"),
            (16_801_792, "17 MB"),
            (999_999_999, "1000 MB"),
            (1_073_741_824, "1.1 GB"),
            (2_400_000_000, "2.4 GB"),
            (5_500_000_000_000_000_000, "5.5 EB"),
            (u64::MAX, "18 EB"),
            // A tie after the tenth goes to the even neighbour, as Go's %.0f does.
            (234_500, "234 kB"),
            (235_500, "236 kB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
    }
}
