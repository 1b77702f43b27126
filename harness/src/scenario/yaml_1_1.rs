//! Plain scalars of a document that says `%YAML 1.1`: `yes` is true there, `010` is eight, and `1:30` is ninety.

use std::borrow::Cow;

/// The scalar as YAML 1.2 writes it; none for one that is a text in YAML 1.1, whatever it looks like.
pub(super) fn as_1_2(text: &str) -> Option<Cow<'_, str>> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some("null".into()),
        "Y" | "y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Some("true".into()),
        "N" | "n" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Some("false".into()),
        ".nan" | ".NaN" | ".NAN" => return Some(text.into()),
        _ => {}
    }
    let (sign, unsigned) = text.split_at(text.len() - text.strip_prefix(['-', '+']).unwrap_or(text).len());
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(text.into());
    }
    for (prefix, radix) in [("0b", 2), ("0x", 16), ("0", 8)] {
        if let Some(digits) = unsigned.strip_prefix(prefix)
            && digits.chars().all(|c| c == '_' || c.is_digit(radix))
            && digits.chars().any(|c| c != '_')
        {
            return Some(format!("{sign}{}", value(digits, radix)).into());
        }
    }
    let whole = |text: &str| text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c == '_' || c.is_ascii_digit());
    if let Some((first, rest)) = unsigned.split_once(':')
        && whole(first)
        && rest.split(':').all(|part| part.parse::<u8>().is_ok_and(|n| n < 60) && part.len() <= 2)
    {
        let total = rest.split(':').fold(value(first, 10), |sum, part| sum * 60.0 + value(part, 10));
        return Some(format!("{sign}{total}").into());
    }
    let plain = text.replace('_', "");
    let decimal = whole(unsigned) || (!unsigned.starts_with('_') && unsigned.contains(['.', 'e', 'E']));
    (decimal && matches!(super::yaml::resolve(&plain), super::yaml::Plain::Whole(_) | super::yaml::Plain::Real(_)))
        .then(|| plain.into())
}

fn value(digits: &str, radix: u32) -> f64 {
    digits.chars().filter_map(|c| c.to_digit(radix)).fold(0.0, |sum, digit| sum * f64::from(radix) + f64::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        for (text, there) in [
            ("yes", Some("true")),
            ("Off", Some("false")),
            ("010", Some("8")),
            ("-0b11", Some("-3")),
            ("0xFf", Some("255")),
            ("1_000", Some("1000")),
            ("1:30", Some("90")),
            ("1.5", Some("1.5")),
            ("0", Some("0")),
            ("0o17", None),
            ("500ms", None),
            ("yEs", None),
            ("1:75", None),
            ("...", None),
        ] {
            assert_eq!(as_1_2(text).as_deref(), there, "{text}");
        }
    }
}
