//! What evaluators say of a side's files comes in, with the paths of our checkout; the same comes out with paths in the
//! repository, so that neither reports nor what is remembered tell where it was checked out. What lies elsewhere, in the
//! store for one, keeps its path, and so does what was cut in the middle of one.

use std::cmp::Reverse;

use ci_model::attr::AttrError;
use ci_model::flow::Source;

/// Where a side's code lies, as evaluators name it: what they say of a file there is said of the file in the repository.
pub(super) struct Places(Vec<String>);

impl Places {
    pub(super) fn of(source: &Source) -> Self {
        let real = source.folder.canonicalize().ok(); // where it is not there, nobody names it
        let both = [Some(source.folder.clone()), real].into_iter().flatten();
        let mut places: Vec<String> = both.filter_map(|folder| Some(folder.to_str()?.to_owned())).collect();
        places.retain(|folder| folder.len() > 1);
        places.sort_unstable_by_key(|folder| Reverse(folder.len())); // one may end as the other does
        Self(places)
    }

    pub(super) fn without(&self, error: AttrError) -> AttrError {
        let without = |text: String| {
            let texts = self.0.iter();
            texts.fold(text, |text, folder| {
                text.replace(&format!("{folder}/"), "").replace(&format!("'{folder}'"), "'.'")
            })
        };
        AttrError { message: without(error.message), trace: without(error.trace), ..error }
    }
}

#[cfg(test)]
mod tests {
    use ci_model::attr::ErrorKind;
    use nix_types::AttrPath;

    use super::*;

    #[test]
    fn only_what_lies_in_the_checkout_is_named_otherwise() {
        let places = Places(vec!["/private/cache/a".into(), "/cache/a".into()]);
        for (said, want) in [
            ("getting status of '/cache/a/x.nix'", "getting status of 'x.nix'"),
            ("at /private/cache/a/x/y.nix:1:2:", "at x/y.nix:1:2:"),
            ("cannot read '/cache/a', nor '/cache/ab/x'", "cannot read '.', nor '/cache/ab/x'"),
            ("path '/nix/store/x' is not valid", "path '/nix/store/x' is not valid"),
        ] {
            let (path, kind) = (AttrPath::root(), ErrorKind::Fatal);
            let error = places.without(AttrError { path, kind, message: said.into(), trace: said.into() });
            assert_eq!((&*error.message, &*error.trace), (want, want));
        }
    }
}
