//! Values as Go's flag package reads them: durations, switches, unsigned numbers.

use std::time::Duration;

use snapshot::membership::parse_hex_id;

/// A Go duration: `10s`, `1m30s`, `1.5h`, `250ms`, `0`. Negative ones are refused: there is no time before now.
///
/// # Errors
/// The message says what is wrong with `text`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 10s, 1m30s or 0");
    if text.starts_with('-') {
        return Err(format!("{text:?} is negative; 0 waits for ever"));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit_ns: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(invalid()),
        };
        let piece_ns = scaled(number, unit_ns).ok_or_else(invalid)?;
        total_ns = total_ns.checked_add(piece_ns).ok_or_else(invalid)?;
        rest = tail;
    }
    // Go keeps durations in a signed 64-bit number of nanoseconds.
    i64::try_from(total_ns).map_err(|_| invalid())?;
    u64::try_from(total_ns).map(Duration::from_nanos).map_err(|_| invalid())
}

/// `number`, with at most one point in it, times `unit`; the part below one is cut off.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole_units: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    // Digits beyond these are below a nanosecond even of an hour.
    let digits = fraction.get(..18).unwrap_or(fraction);
    let tenths: u128 = if digits.is_empty() { 0 } else { digits.parse::<u64>().ok()?.into() };
    let scale = 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    whole_units.checked_mul(unit)?.checked_add(tenths.checked_mul(unit)? / scale)
}

/// A Go boolean.
///
/// # Errors
/// The message says what is wrong with `text`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// The id of a member or cluster, in hexadecimal as etcdctl prints it.
///
/// # Errors
/// The message says what is wrong with `text`.
pub(crate) fn id(text: &str) -> Result<u64, String> {
    let id = parse_hex_id(text).filter(|id| *id != 0);
    id.ok_or_else(|| format!("{text:?} is no id: up to 16 hexadecimal digits, and not 0"))
}

/// A Go unsigned number: decimal, or with the prefix `0x`, `0o`, `0` or `0b`; `_` may separate digits after a prefix.
///
/// # Errors
/// The message says what is wrong with `text`.
pub(crate) fn unsigned(text: &str) -> Result<u64, String> {
    let invalid = || format!("{text:?} is not a number from 0 to {}", u64::MAX);
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let digits = if radix == 10 { digits.to_owned() } else { digits.replace('_', "") };
    // `from_str_radix` takes a sign, Go does not.
    if digits.starts_with('+') {
        return Err(invalid());
    }
    u64::from_str_radix(&digits, radix).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0", 0)]
    #[case("+0", 0)]
    #[case("10s", 10_000_000_000)]
    #[case("1m30s", 90_000_000_000)]
    #[case("1.5h", 5_400_000_000_000)]
    #[case(".5s", 500_000_000)]
    #[case("1.s", 1_000_000_000)]
    #[case("250ms", 250_000_000)]
    #[case("3us", 3_000)]
    #[case("3µs", 3_000)]
    #[case("1h0.000000001s", 3_600_000_000_001)]
    #[case("0.3333333333333333333h", 1_199_999_999_999)]
    fn durations(#[case] text: &str, #[case] ns: u64) {
        assert_eq!(duration(text), Ok(Duration::from_nanos(ns)));
    }

    #[rstest]
    #[case("")]
    #[case("10")]
    #[case("s")]
    #[case(".s")]
    #[case("1..5s")]
    #[case("1d")]
    #[case("10s ")]
    #[case("-1s")]
    #[case("99999999999h")]
    #[case("9999999999999999999999s")]
    fn no_durations(#[case] text: &str) {
        assert!(duration(text).is_err());
    }

    #[rstest]
    #[case("0", 0)]
    #[case("1000000000", 1_000_000_000)]
    #[case("0x3b9aca00", 1_000_000_000)]
    #[case("0X10", 16)]
    #[case("010", 8)]
    #[case("0o10", 8)]
    #[case("0b101", 5)]
    #[case("0x1_000", 4096)]
    #[case("18446744073709551615", u64::MAX)]
    fn numbers(#[case] text: &str, #[case] number: u64) {
        assert_eq!(unsigned(text), Ok(number));
    }

    #[rstest]
    #[case("")]
    #[case("-1")]
    #[case("+1")]
    #[case("0x")]
    #[case("0x+1")]
    #[case("1e9")]
    #[case("1_000")]
    #[case("18446744073709551616")]
    fn no_numbers(#[case] text: &str) {
        assert!(unsigned(text).is_err());
    }

    #[test]
    fn switches() {
        assert_eq!(switch("T"), Ok(true));
        assert_eq!(switch("False"), Ok(false));
        assert!(switch("yes").is_err());
    }
}
