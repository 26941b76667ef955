//! What the messages say: a line of telemetry that starts with the time it was sent.

use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes before the time of sending.
const STAMP_AT: usize = 5;
/// Decimal digits of the time of sending: nanoseconds since 1970.
const STAMP_DIGITS: usize = 20;
/// The smallest payload there is room for.
pub const MIN_SIZE: usize = 48;

/// A payload of `size` bytes, different for each `seed`: JSON whose numbers do not repeat, so that compression
/// has neither nothing nor everything to do. At least [`MIN_SIZE`] bytes.
pub fn telemetry(size: usize, seed: u64) -> Vec<u8> {
    let size = size.max(MIN_SIZE);
    let mut text = format!("{{\"t\":{:0STAMP_DIGITS$},\"values\":[", 0);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while text.len() < size {
        // xorshift: cheap, and the same bytes in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{}.{:03},", state % 90 + 10, state / 1000 % 1000));
    }
    text.truncate(size - 2);
    text.push_str("]}");
    text.into_bytes()
}

/// Nanoseconds since 1970: comparable between processes of one machine.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes the time of sending into a payload made by [`telemetry`].
pub fn stamp(payload: &mut [u8], mut nanos: u64) {
    for digit in payload[STAMP_AT..STAMP_AT + STAMP_DIGITS].iter_mut().rev() {
        *digit = b'0' + (nanos % 10) as u8;
        nanos /= 10;
    }
}

/// Reads the time of sending. `None`: not a payload of this benchmark.
pub fn stamped(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(STAMP_AT..STAMP_AT + STAMP_DIGITS)?;
    digits.iter().try_fold(0u64, |sum, digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_asked_for_and_differs_by_seed() {
        for size in [48, 100, 1024] {
            assert_eq!(telemetry(size, 1).len(), size);
        }
        assert_ne!(telemetry(100, 1), telemetry(100, 2));
    }

    #[test]
    fn the_time_of_sending_comes_back() {
        let mut payload = telemetry(100, 7);
        let nanos = now();
        stamp(&mut payload, nanos);
        assert_eq!(stamped(&payload), Some(nanos));
        assert_eq!(stamped(b"{\"t\":hello"), None);
    }
}
