//! Quantities as Kubernetes writes them: `500m`, `1.5`, `64Mi`, `1e9`.
//!
//! A quantity is held exactly, as thousandths of thousandths of thousandths
//! (10⁻⁹), so that rounding happens once, upwards, when a unit is chosen.

use std::fmt;

/// Billionths in one.
const NANO: i128 = 1_000_000_000;

/// Largest quantity, as in Kubernetes: 2⁶³ - 1.
const MAX: i128 = i64::MAX as i128 * NANO;

/// A number with its unit applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number at all.
    #[error("{text:?} is not a quantity: it must be a number, with a unit like m, k, M, Gi")]
    Number {
        /// What was given.
        text: String,
    },
    /// A number, but not one of the units.
    #[error(
        "{unit:?} in {text:?} is not a unit of quantities, which are m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi and Ei"
    )]
    Unit {
        /// What was given.
        text: String,
        /// The part after the number.
        unit: String,
    },
    /// More than 2⁶³ - 1.
    #[error("{text:?} is more than a quantity may be (9223372036854775807)")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

impl QuantityError {
    /// What was meant, where a unit is written as other programs have it.
    pub(super) fn meant(&self) -> Option<String> {
        let Self::Unit { text, unit } = self else {
            return None;
        };
        let number = text.strip_suffix(unit.as_str())?;
        if let Some(rest) = unit.strip_prefix(',') {
            let is_fraction = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
            return is_fraction.then(|| format!("{number}.{rest}"));
        }
        let unit = match unit.trim_start().to_ascii_lowercase().as_str() {
            "b" => "",
            "k" | "ki" | "kb" | "kib" => "Ki",
            "mi" | "mb" | "mib" => "Mi",
            "g" | "gi" | "gb" | "gib" => "Gi",
            "t" | "ti" | "tb" | "tib" => "Ti",
            _ => return None,
        };
        Some(format!("{number}{unit}"))
    }
}

impl Quantity {
    /// Reads a quantity. What is finer than 10⁻⁹ is rounded away from zero.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let shown = || text.chars().take(60).collect::<String>();
        let number = || QuantityError::Number { text: shown() };
        let too_large = || QuantityError::TooLarge { text: shown() };
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (digits, unit) = rest.split_at(end);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(number());
        }
        let scale = Scale::parse(unit).ok_or_else(|| QuantityError::Unit {
            text: shown(),
            unit: unit.chars().take(20).collect(),
        })?;
        let nanos = scale.apply(whole, fraction).ok_or_else(too_large)?;
        if nanos > MAX {
            return Err(too_large());
        }
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
        })
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whole units, rounded up; nothing below zero.
    #[must_use]
    pub fn units(self) -> u64 {
        Self::ceil(self.nanos, NANO)
    }

    /// Thousandths, rounded up; nothing below zero.
    #[must_use]
    pub fn millis(self) -> u64 {
        Self::ceil(self.nanos, NANO / 1000)
    }

    fn ceil(nanos: i128, divisor: i128) -> u64 {
        let nanos = nanos.max(0);
        let up = nanos / divisor + i128::from(nanos % divisor != 0);
        u64::try_from(up).unwrap_or(u64::MAX)
    }
}

/// The factor behind a number.
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

impl Scale {
    fn parse(unit: &str) -> Option<Self> {
        Some(match unit {
            "n" => Self::Ten(-9),
            "u" => Self::Ten(-6),
            "m" => Self::Ten(-3),
            "" => Self::Ten(0),
            "k" => Self::Ten(3),
            "M" => Self::Ten(6),
            "G" => Self::Ten(9),
            "T" => Self::Ten(12),
            "P" => Self::Ten(15),
            "E" => Self::Ten(18),
            "Ki" => Self::Two(10),
            "Mi" => Self::Two(20),
            "Gi" => Self::Two(30),
            "Ti" => Self::Two(40),
            "Pi" => Self::Two(50),
            "Ei" => Self::Two(60),
            _ => {
                let exponent = unit.strip_prefix(['e', 'E'])?;
                let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                // An exponent that no i16 holds is out of every range alike.
                let clamped = if exponent.starts_with('-') { -999 } else { 999 };
                Self::Ten(exponent.parse::<i16>().map_or(clamped, i32::from))
            }
        })
    }

    /// Billionths of `whole.fraction` at this scale; `None` beyond any range.
    fn apply(&self, whole: &str, fraction: &str) -> Option<i128> {
        let digits = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let places = i32::try_from(fraction.len()).ok()?;
        match *self {
            Self::Ten(exponent) => {
                // value = digits × 10^power, digits without a point
                let mantissa = format!("{digits}{fraction}");
                let mantissa = mantissa.trim_start_matches('0');
                if mantissa.is_empty() {
                    return Some(0);
                }
                shift(mantissa, exponent.saturating_add(9).saturating_sub(places))
            }
            Self::Two(bits) => {
                // 18 places are enough: what is cut is below 2^60 × 10^-18.
                let cut = fraction.get(..18.min(fraction.len()))?;
                let part = if cut.is_empty() {
                    0
                } else {
                    let power = 10i128.pow(u32::try_from(cut.len()).ok()?);
                    let parts = cut.parse::<i128>().ok()? * (1i128 << bits);
                    // parts < 10^18 × 2^60, and × 10^9 would overflow: split first
                    let (units, rest) = (parts / power, parts % power);
                    let nanos = rest * NANO;
                    units * NANO + nanos / power + i128::from(nanos % power != 0)
                };
                if digits.len() > 20 {
                    return None;
                }
                let whole = if digits.is_empty() {
                    0
                } else {
                    digits.parse::<i128>().ok()?
                };
                whole
                    .checked_mul(1i128 << bits)?
                    .checked_mul(NANO)?
                    .checked_add(part)
            }
        }
    }
}

/// `digits × 10^power`, rounded up; `None` when it is beyond any range.
fn shift(digits: &str, power: i32) -> Option<i128> {
    let length = i32::try_from(digits.len()).ok()?;
    if length.saturating_add(power) > 29 {
        return None;
    }
    if power >= 0 {
        let power = u32::try_from(power).ok()?;
        return digits.parse::<i128>().ok()?.checked_mul(10i128.pow(power));
    }
    let keep = usize::try_from(length.saturating_add(power).max(0)).ok()?;
    let (kept, lost) = digits.split_at(keep);
    let value = if kept.is_empty() {
        0
    } else {
        kept.parse::<i128>().ok()?
    };
    Some(value + i128::from(lost.bytes().any(|byte| byte != b'0')))
}

/// Bytes for people: the largest binary unit that leaves no fraction.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        for (unit, bits) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= bits {
                return write!(f, "{}{unit}", self.0 >> bits);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(text: &str) -> u64 {
        Quantity::parse(text).expect("a quantity").millis()
    }

    fn units(text: &str) -> u64 {
        Quantity::parse(text).expect("a quantity").units()
    }

    #[test]
    fn units_of_other_programs_are_told_in_kubernetes_words() {
        for (text, meant) in [
            ("1g", Some("1Gi")),
            ("512MB", Some("512Mi")),
            ("64kb", Some("64Ki")),
            ("100 Mb", Some("100Mi")),
            ("1.5GiB", Some("1.5Gi")),
            ("1,5", Some("1.5")),
            ("100b", Some("100")),
            ("1x", None),
            ("1,,5", None),
        ] {
            let error = Quantity::parse(text).unwrap_err();
            assert_eq!(error.meant().as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn the_forms_of_kubernetes_are_read() {
        assert_eq!(millis("500m"), 500);
        assert_eq!(millis("0.5"), 500);
        assert_eq!(millis("1"), 1000);
        assert_eq!(millis("1.0005"), 1001);
        assert_eq!(millis("100u"), 1);
        assert_eq!(millis(".5"), 500);
        assert_eq!(millis("2."), 2000);
        assert_eq!(units("64Mi"), 64 << 20);
        assert_eq!(units("1.5Gi"), 3 << 29);
        assert_eq!(units("129e6"), 129_000_000);
        assert_eq!(units("1E3"), 1000);
        assert_eq!(units("1E"), 1_000_000_000_000_000_000);
        assert_eq!(units("123k"), 123_000);
        assert_eq!(units("0.1"), 1);
        assert_eq!(units("+7"), 7);
        assert_eq!(units("-7"), 0);
        assert!(Quantity::parse("-7").expect("a quantity").is_negative());
        assert_eq!(units("9223372036854775807"), i64::MAX as u64);
        assert_eq!(units("0e999999999999"), 0);
        assert_eq!(units("1e-999999999999"), 1);
        assert_eq!(units("0.0000000000000000000000000000000001Gi"), 0);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "-", ".", "Mi", "1.2.3", "x"] {
            assert!(
                matches!(Quantity::parse(text), Err(QuantityError::Number { .. })),
                "{text}"
            );
        }
        for text in ["1Mib", "64MB", "1 Gi", "5e", "5e+", "1K", "0x10", "1,5"] {
            assert!(
                matches!(Quantity::parse(text), Err(QuantityError::Unit { .. })),
                "{text}"
            );
        }
        for text in [
            "8Ei",
            "1e19",
            "9223372036854775808",
            "99999999999999999999999999999Ki",
        ] {
            assert!(
                matches!(Quantity::parse(text), Err(QuantityError::TooLarge { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn bytes_are_shown_in_the_largest_whole_unit() {
        assert_eq!(Bytes(0).to_string(), "0");
        assert_eq!(Bytes(64 << 20).to_string(), "64Mi");
        assert_eq!(Bytes(1536 << 20).to_string(), "1536Mi");
        assert_eq!(Bytes(1000).to_string(), "1000");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn no_number_makes_the_parser_panic(
            text in "[+-]?[0-9]{0,40}(\\.[0-9]{0,40})?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,6})?"
        ) {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn whole_numbers_are_exact(number in 0u64..=i64::MAX as u64) {
            prop_assert_eq!(units(&number.to_string()), number);
        }

        #[test]
        fn binary_units_are_exact(number in 0u64..1 << 22, unit in 0usize..4) {
            let text = format!("{number}{}", ["Ki", "Mi", "Gi", "Ti"][unit]);
            prop_assert_eq!(units(&text), number << (10 * (unit + 1)));
        }

        #[test]
        fn a_thousandth_is_a_decimal_place(number in 0u64..1 << 40) {
            let point = format!("{}.{:03}", number / 1000, number % 1000);
            prop_assert_eq!(millis(&point), number);
            prop_assert_eq!(millis(&format!("{number}m")), number);
        }

        #[test]
        fn own_output_is_read_again(bytes in 0u64..=i64::MAX as u64) {
            prop_assert_eq!(units(&Bytes(bytes).to_string()), bytes);
        }
    }
}
