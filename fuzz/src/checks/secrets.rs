//! Credentials: contents of files and secrets, and what is taken out of texts.

use std::collections::BTreeMap;

use secrets::{NAMES_MAX, Redactor, Secret, parse, parse_or_raw};

/// A content: what is taken comes out the same when it is written and read again; an error says nothing of the content.
pub fn secret_values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = parse(&text);
    match &parsed {
        Ok(map) => {
            assert!(!map.is_empty() || text.trim_start_matches('\u{feff}').trim_start().starts_with('{'));
            assert!(map.len() <= NAMES_MAX);
            again(map);
        }
        Err(error) => {
            let words: String = error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect();
            assert!(words.len() < 120 && words.is_ascii(), "{words}");
            let known = ["is empty", "is no JSON", "line ", "the value that", "has more than"];
            assert!(known.iter().any(|known| words.starts_with(known)), "{words}");
        }
    }
    match parse_or_raw(&text, "raw") {
        Ok(map) if map.len() == 1 && map.contains_key("raw") => {
            assert!(map["raw"].reveal().len() <= text.len());
        }
        other => assert_eq!(other, parsed),
    }
}

/// Writes values as JSON and, where their names allow it, as lines.
fn again(map: &BTreeMap<String, Secret>) {
    let pairs: BTreeMap<&str, &str> =
        map.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    let json = serde_json::to_string(&pairs).expect("texts are JSON");
    assert_eq!(parse(&json).as_ref(), Ok(map));
    let is_name = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !pairs.is_empty() && pairs.keys().all(is_name) {
        let line = |(name, value): (&&str, &&str)| {
            let mut quoted = String::new();
            for c in value.chars() {
                match c {
                    '\r' => quoted.push_str("\\r"),
                    '"' | '\\' => quoted.extend(['\\', c]),
                    c => quoted.push(c),
                }
            }
            format!("{name}=\"{quoted}\"\n")
        };
        let lines: String = pairs.iter().map(line).collect();
        assert_eq!(parse(&lines).as_ref(), Ok(map), "{lines}");
    }
}

/// The first line is a secret, the rest a text: it comes out without the secret, and the same in chunks as whole.
pub fn redactor(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (secret, text) = text.split_once('\n').unwrap_or((&text, ""));
    let mut redactor = Redactor::new(&[Secret::new(secret)]);
    let whole = redactor.text(text);
    let mut out = Vec::new();
    for (number, chunk) in text.as_bytes().chunks(1 + secret.len() % 7).enumerate() {
        redactor.feed(chunk, &mut out);
        if number == 100 {
            // The rest at once: short chunks behind a long secret cost its length each.
            break;
        }
    }
    let fed = text.len().min(101 * (1 + secret.len() % 7));
    redactor.feed(&text.as_bytes()[fed..], &mut out);
    redactor.finish(&mut out);
    assert_eq!(str::from_utf8(&out), Ok(whole.as_str()));
    let secret = secret.trim();
    if secret.len() >= secrets::PATTERN_MIN && !secret.contains('*') {
        assert!(!whole.contains(secret), "{secret:?} is still in {whole:?}");
    }
    // Escaped, or wrapped over lines, it may be there all the same.
    let is_plain = !text.contains(['%', '\\', '&']) && !text.contains(char::is_whitespace);
    if !text.contains(secret) && is_plain && secret.is_ascii() {
        assert_eq!(whole, text);
    }
}
