//! Bytes of a `.drv` file in, a derivation out, or a view of it that borrows the bytes: one pass, a cursor and the fixed
//! shape of the file.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::{
    DRV_BYTES_MAX, Derivation, DerivationError, DrvView, InputView, Output, OutputView, VariableView,
};
use crate::store_path::{DrvPath, StorePath};

/// Reads a `.drv` file. Time and memory are linear in its size.
///
/// # Errors
/// [`DerivationError`] says at which byte what was expected.
pub fn parse(bytes: &[u8]) -> Result<Derivation, DerivationError> {
    if bytes.len() > DRV_BYTES_MAX {
        return Err(DerivationError::TooLarge(bytes.len()));
    }
    if bytes.starts_with(b"DrvWithVersion(") {
        return Err(DerivationError::Dynamic);
    }
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.take(b"Derive(", "`Derive(`")?;
    let outputs = cursor.map("an output", Cursor::output)?;
    if outputs.is_empty() {
        return Err(DerivationError::Expected { wanted: "at least one output", at: cursor.at });
    }
    cursor.comma()?;
    let input_drvs = cursor.map("an input derivation", Cursor::input_drv)?;
    cursor.comma()?;
    let input_srcs = cursor.set("an input", Cursor::store_path)?;
    cursor.comma()?;
    let system = cursor.text("the system")?;
    cursor.comma()?;
    let builder = cursor.string()?.into_owned();
    cursor.comma()?;
    let mut args = Vec::new();
    cursor.list(|cursor| {
        args.push(cursor.string()?.into_owned());
        Ok(())
    })?;
    cursor.comma()?;
    let env = cursor.map("a variable", Cursor::variable)?;
    cursor.take(b")", "`)`")?;
    if cursor.at < bytes.len() {
        return Err(DerivationError::Trailing { at: cursor.at });
    }
    Ok(Derivation { outputs, input_drvs, input_srcs, system, builder, args, env })
}

/// Reads a `.drv` file without copying: what needs no unescaping is borrowed, and nothing is sorted. Takes what [`parse`]
/// takes and refuses what it refuses.
///
/// # Errors
/// As [`parse`].
pub fn view(bytes: &[u8]) -> Result<DrvView<'_>, DerivationError> {
    if bytes.len() > DRV_BYTES_MAX {
        return Err(DerivationError::TooLarge(bytes.len()));
    }
    if bytes.starts_with(b"DrvWithVersion(") {
        return Err(DerivationError::Dynamic);
    }
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.take(b"Derive(", "`Derive(`")?;
    let outputs = cursor.rows("an output", Cursor::output_view, |output| &output.name)?;
    if outputs.is_empty() {
        return Err(DerivationError::Expected { wanted: "at least one output", at: cursor.at });
    }
    cursor.comma()?;
    let input_drvs = cursor.rows("an input derivation", Cursor::input_view, |input| &input.0)?;
    cursor.comma()?;
    let input_srcs = cursor.borrowed_set("an input", |cursor| {
        let at = cursor.at;
        let path = cursor.string()?;
        StorePath::check(&path).map_err(|fault| DerivationError::Path { at, fault })?;
        text_of(path, "an input", at)
    })?;
    cursor.comma()?;
    let system = cursor.text_view("the system")?;
    cursor.comma()?;
    let builder = cursor.string()?;
    cursor.comma()?;
    let mut args = Vec::new();
    cursor.list(|cursor| {
        args.push(cursor.string()?);
        Ok(())
    })?;
    cursor.comma()?;
    let env = cursor.rows("a variable", Cursor::variable_view, |variable| &variable.0)?;
    cursor.take(b")", "`)`")?;
    if cursor.at < bytes.len() {
        return Err(DerivationError::Trailing { at: cursor.at });
    }
    Ok(DrvView { outputs, input_drvs, input_srcs, system, builder, args, env })
}

/// Are no two of them equal? Nix writes them sorted, which makes it one look; others are sorted here.
fn all_differ<K: Ord + ?Sized>(keys: &[&K]) -> bool {
    if keys.windows(2).all(|pair| pair[0] < pair[1]) {
        return true;
    }
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] < pair[1])
}

fn text_of<'a>(bytes: Cow<'a, [u8]>, what: &'static str, at: usize) -> Result<Cow<'a, str>, DerivationError> {
    let not_text = DerivationError::NotUtf8 { what, at };
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| not_text),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| not_text),
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, token: &[u8], wanted: &'static str) -> Result<(), DerivationError> {
        if self.bytes[self.at..].starts_with(token) {
            self.at += token.len();
            Ok(())
        } else {
            Err(DerivationError::Expected { wanted, at: self.at })
        }
    }

    fn comma(&mut self) -> Result<(), DerivationError> {
        self.take(b",", "a comma")
    }

    /// `[` items `]`
    fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), DerivationError>,
    ) -> Result<(), DerivationError> {
        self.take(b"[", "`[`")?;
        if self.take(b"]", "`]`").is_ok() {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(b"]", "`]`").is_ok() {
                return Ok(());
            }
            self.take(b",", "a comma or `]`")?;
        }
    }

    fn map<K: Ord, V>(
        &mut self,
        what: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<(K, V), DerivationError>,
    ) -> Result<BTreeMap<K, V>, DerivationError> {
        let mut all = BTreeMap::new();
        self.list(|cursor| {
            cursor.take(b"(", "`(`")?;
            let (key, value) = item(cursor)?;
            cursor.take(b")", "`)`")?;
            let twice = all.insert(key, value).is_some();
            if twice { Err(DerivationError::Twice { what, at: cursor.at }) } else { Ok(()) }
        })?;
        Ok(all)
    }

    fn set<T: Ord>(
        &mut self,
        what: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, DerivationError>,
    ) -> Result<BTreeSet<T>, DerivationError> {
        let mut all = BTreeSet::new();
        self.list(|cursor| {
            let new = all.insert(item(cursor)?);
            if new { Ok(()) } else { Err(DerivationError::Twice { what, at: cursor.at }) }
        })?;
        Ok(all)
    }

    fn output(&mut self) -> Result<(String, Output), DerivationError> {
        let name = self.text("an output's name")?;
        self.comma()?;
        let at = self.at;
        let path = match self.string()? {
            none if none.is_empty() => None,
            some => Some(StorePath::parse(&some).map_err(|fault| DerivationError::Path { at, fault })?),
        };
        self.comma()?;
        let hash_algo = self.text("a hash algorithm")?;
        self.comma()?;
        let hash = self.text("a hash")?;
        Ok((name, Output { path, hash_algo, hash }))
    }

    fn input_drv(&mut self) -> Result<(DrvPath, BTreeSet<String>), DerivationError> {
        let at = self.at;
        let drv = DrvPath::parse(&self.string()?).map_err(|fault| DerivationError::InputDrv { at, fault })?;
        self.comma()?;
        let outputs = self.set("an output's name", |cursor| cursor.text("an output's name"))?;
        Ok((drv, outputs))
    }

    fn variable(&mut self) -> Result<(Vec<u8>, Vec<u8>), DerivationError> {
        let name = self.string()?;
        self.comma()?;
        Ok((name.into_owned(), self.string()?.into_owned()))
    }

    fn store_path(&mut self) -> Result<StorePath, DerivationError> {
        let at = self.at;
        StorePath::parse(&self.string()?).map_err(|fault| DerivationError::Path { at, fault })
    }

    fn text(&mut self, what: &'static str) -> Result<String, DerivationError> {
        let at = self.at;
        text_of(self.string()?, what, at).map(Cow::into_owned)
    }

    /// `[(row), …]` in the order it is written, no key twice.
    fn rows<T, K: Ord + ToOwned + ?Sized + 'a>(
        &mut self,
        what: &'static str,
        mut row: impl FnMut(&mut Self) -> Result<T, DerivationError>,
        key: impl Fn(&T) -> &Cow<'a, K>,
    ) -> Result<Vec<T>, DerivationError> {
        let mut all = Vec::new();
        self.list(|cursor| {
            cursor.take(b"(", "`(`")?;
            all.push(row(cursor)?);
            cursor.take(b")", "`)`")
        })?;
        let keys: Vec<&K> = all.iter().map(|row| &**key(row)).collect();
        if all_differ(&keys) { Ok(all) } else { Err(DerivationError::Twice { what, at: self.at }) }
    }

    fn borrowed_set(
        &mut self,
        what: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<Cow<'a, str>, DerivationError>,
    ) -> Result<Vec<Cow<'a, str>>, DerivationError> {
        let mut all = Vec::new();
        self.list(|cursor| {
            all.push(item(cursor)?);
            Ok(())
        })?;
        let keys: Vec<&str> = all.iter().map(|item| &**item).collect();
        if all_differ(&keys) { Ok(all) } else { Err(DerivationError::Twice { what, at: self.at }) }
    }

    fn output_view(&mut self) -> Result<OutputView<'a>, DerivationError> {
        let name = self.text_view("an output's name")?;
        self.comma()?;
        let at = self.at;
        let path = match self.string()? {
            none if none.is_empty() => None,
            some => {
                StorePath::check(&some).map_err(|fault| DerivationError::Path { at, fault })?;
                Some(text_of(some, "a path", at)?)
            }
        };
        self.comma()?;
        let hash_algo = self.text_view("a hash algorithm")?;
        self.comma()?;
        let hash = self.text_view("a hash")?;
        Ok(OutputView { name, path, hash_algo, hash })
    }

    fn input_view(&mut self) -> Result<InputView<'a>, DerivationError> {
        let at = self.at;
        let path = self.string()?;
        DrvPath::check(&path).map_err(|fault| DerivationError::InputDrv { at, fault })?;
        let path = text_of(path, "an input derivation", at)?;
        self.comma()?;
        let outputs = self.borrowed_set("an output's name", |cursor| cursor.text_view("an output's name"))?;
        Ok((path, outputs))
    }

    fn variable_view(&mut self) -> Result<VariableView<'a>, DerivationError> {
        let name = self.string()?;
        self.comma()?;
        Ok((name, self.string()?))
    }

    fn text_view(&mut self, what: &'static str) -> Result<Cow<'a, str>, DerivationError> {
        let at = self.at;
        text_of(self.string()?, what, at)
    }

    /// A quoted string; a backslash makes `n`, `r`, `t` a control character and leaves any other byte as it is.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, DerivationError> {
        let start = self.at;
        self.take(b"\"", "a quoted string")?;
        let bytes = self.bytes;
        let plain = bytes[self.at..].iter().position(|byte| matches!(byte, b'"' | b'\\'));
        match plain {
            Some(end) if bytes[self.at + end] == b'"' => {
                let value = &bytes[self.at..self.at + end];
                self.at += end + 1;
                Ok(Cow::Borrowed(value))
            }
            _ => self.escaped_string(start).map(Cow::Owned),
        }
    }

    fn escaped_string(&mut self, start: usize) -> Result<Vec<u8>, DerivationError> {
        let mut value = Vec::new();
        loop {
            let rest = &self.bytes[self.at..];
            let unclosed = DerivationError::Expected { wanted: "the end of a quoted string", at: start };
            let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                return Err(unclosed);
            };
            value.extend_from_slice(&rest[..plain]);
            self.at += plain + 1;
            if rest[plain] == b'"' {
                return Ok(value);
            }
            let Some(escaped) = self.bytes.get(self.at) else { return Err(unclosed) };
            value.push(match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            });
            self.at += 1;
        }
    }
}
