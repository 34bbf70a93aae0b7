//! What YAML means by words without quotes.

use super::yaml::Scalar;

/// 2⁵³, up to which a float has each integer.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// What a scalar is when nothing else is asked for (YAML's core schema).
pub enum Plain {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text,
}

impl Plain {
    /// What a scalar is.
    pub fn read(scalar: &Scalar) -> Self {
        if !scalar.plain {
            return Self::Text;
        }
        let text = scalar.text.as_str();
        match text {
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        if let Some(number) = integer(text) {
            return Self::Integer(number);
        }
        // Rust reads `inf` and `nan` as numbers, YAML does not.
        let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
            && text.bytes().any(|byte| byte.is_ascii_digit())
            && !text.contains(['i', 'n', 'I', 'N']);
        match text.parse() {
            Ok(number) if numeric => whole(number).map_or(Self::Float(number), Self::Integer),
            _ => Self::Text,
        }
    }
}

/// A float that is an integer is one: kubectl hands JSON over, in which `30.0` is
/// `30` and `1e+06`, as Helm writes a million, is `1000000`.
fn whole(number: f64) -> Option<i64> {
    let is_exact = number.fract() == 0.0 && number.abs() <= MAX_EXACT;
    is_exact.then(|| format!("{number:.0}").parse().ok())?
}

/// Decimal, `0x…`, `0o…`, and the `0644` that file modes are written in.
pub fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = if let Some(hex) = digits.strip_prefix("0x") {
        (hex, 16)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        (octal, 8)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (digits, 8)
    } else {
        (digits, 10)
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let number = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}
