//! How a secret may be written. In: a secret. Out: the texts to look for. What a text may do to single characters (`%2B`,
//! `\u002b`, `&amp;`) is not here: `view` undoes that. Leaves out what is encoded twice.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// Shortest text that is taken out, in bytes: shorter ones would be found everywhere.
pub const PATTERN_MIN: usize = 6;
/// Shortest line of a secret of several lines that is taken out by itself, in bytes.
const LINE_MIN: usize = 16;
/// Longest secret that is looked for in base 64 and hexadecimal too, in bytes.
pub const ENCODED_MAX: usize = 4 << 10;

/// Adds what to look for.
pub(super) fn forms(secret: &str, patterns: &mut Vec<Zeroizing<String>>) {
    let trimmed = secret.trim();
    let mut add = |form: Zeroizing<String>| {
        if form.len() >= PATTERN_MIN && !patterns.contains(&form) {
            patterns.push(form);
        }
    };
    add(Zeroizing::new(trimmed.to_owned()));
    let lines = trimmed.lines().map(str::trim).filter(|line| line.len() >= LINE_MIN && *line != trimmed);
    // What marks a PEM block is no secret, and says what was taken out.
    let lines = lines.filter(|line| !line.starts_with("-----"));
    lines.for_each(|line| add(Zeroizing::new(line.to_owned())));
    if trimmed.len() < PATTERN_MIN || trimmed.len() > ENCODED_MAX {
        return;
    }
    let hex: String = trimmed.bytes().map(|byte| format!("{byte:02x}")).collect();
    add(Zeroizing::new(hex.to_uppercase()));
    add(Zeroizing::new(hex));
    for before in 0..3 {
        base64(trimmed, before, |bytes| STANDARD_NO_PAD.encode(bytes)).into_iter().for_each(&mut add);
        base64(trimmed, before, |bytes| URL_SAFE_NO_PAD.encode(bytes)).into_iter().for_each(&mut add);
    }
}

/// The characters of a secret in base 64 with so many bytes, modulo 3, in front (a password behind its user's name, for
/// one): those that it has whatever stands behind it, and those that it has at the end of a text.
fn base64(secret: &str, before: usize, encode: impl Fn(&[u8]) -> String) -> [Zeroizing<String>; 2] {
    let mut bytes = Zeroizing::new(vec![0; before]);
    bytes.extend_from_slice(secret.as_bytes());
    let text = Zeroizing::new(encode(&bytes));
    // Six bits a character: those that are also of what stands in front or behind are not the secret's alone.
    let first = (before * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    let part = |end: usize| Zeroizing::new(text.get(first..end).unwrap_or_default().to_owned());
    [part(end), part(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_whatever_stands_around() {
        let mut patterns = Vec::new();
        forms("s3cret-of-mine?~", &mut patterns);
        for around in [("", ""), ("u:", ""), ("user:", "x"), ("a", "bcd"), ("ab", "\n")] {
            let text = format!("{}s3cret-of-mine?~{}", around.0, around.1);
            for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                let found = patterns.iter().filter(|form| encoded.contains(form.as_str()));
                let longest = found.map(|form| form.len()).max().unwrap();
                assert!(longest >= 20, "{encoded}: {longest}");
            }
        }
    }
}
