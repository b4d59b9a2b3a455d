//! Object places: XML of S3 and STS, netrc files, AWS' profile files, dates of answers.

use object_kit::aws::Profiles;
use object_kit::netrc::{Login, Netrc};
use object_kit::{Secret, parse_http_date, xml};

/// An answer of S3: what is taken is within its bounds and comes out the same when it is written and read again.
pub fn s3_xml(bytes: &[u8]) {
    match xml::parse(bytes) {
        Ok(root) => {
            let mut count = 0;
            bounded(&root, 1, &mut count);
            assert!(count <= xml::ELEMENTS_MAX);
            let mut text = String::new();
            write(&root, &mut text);
            let again = xml::parse(text.as_bytes()).expect("what was written is well-formed");
            assert!(again == root, "{text}");
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

fn bounded(element: &xml::Element, depth: usize, count: &mut usize) {
    *count += 1;
    assert!(
        depth <= xml::DEPTH_MAX + 1 && !element.name.is_empty() && !element.name.contains(['<', ':', ' '])
    );
    element.children.iter().for_each(|child| bounded(child, depth + 1, count));
}

fn write(element: &xml::Element, out: &mut String) {
    let text: String = element.text.chars().map(|c| format!("&#{};", u32::from(c))).collect();
    out.push_str(&format!("<{}>{text}", element.name));
    element.children.iter().for_each(|child| write(child, out));
    out.push_str(&format!("</{}>", element.name));
}

/// A netrc file: each host is told something from the file or nothing, and what is printed of it does not depend on the password.
pub fn netrc(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let netrc = Netrc::parse(&text);
    let words = text.split_whitespace().take(50);
    for host in words.chain(["", "no.such.host"]) {
        let Some(login) = netrc.login(host) else { continue };
        assert!(login.user.len() + login.password.reveal().len() <= text.len());
        let other = Login { password: Secret::new("another"), ..login.clone() };
        assert_eq!(format!("{login:?} {}", login.password), format!("{other:?} {}", other.password));
    }
}

/// A credentials file and a config file: where both say something the first counts, in whichever order they are read.
pub fn aws_profiles(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (credentials, config) = text.split_once("\n%%\n").unwrap_or((&text, ""));
    let (mut one, mut other) = (Profiles::default(), Profiles::default());
    let first = (one.add_credentials(credentials), one.add_config(config));
    let config_first = other.add_config(config);
    let second = (other.add_credentials(credentials), config_first);
    assert_eq!(first, second);
    let lines = text.lines().count();
    for error in [&first.0, &first.1].into_iter().filter_map(|added| added.as_ref().err()) {
        assert!((1..=lines).contains(&error.line), "{error}");
    }
    if first == (Ok(()), Ok(())) {
        for name in text
            .lines()
            .filter_map(|line| line.trim().strip_prefix('[')?.split_once(']'))
            .map(|(n, _)| n.trim())
            .take(50)
        {
            for key in ["region", "role_arn", "aws_access_key_id"] {
                let value = one.get(name, key);
                assert!(value.is_none_or(|value| !value.is_empty() && value == value.trim()));
            }
        }
    }
}

/// A date: what is taken is the same moment again when it is written.
pub fn http_date(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(time) = parse_http_date(&text) else { return };
    let shown = time.to_string();
    assert_eq!((text.len(), &text[5..7], &text[12..16]), (29, &shown[8..10], &shown[..4]));
    assert_eq!(&text[17..25], &shown[11..19]);
}
