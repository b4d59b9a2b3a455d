//! What a change comes to, by the files it touches alone, before anything is evaluated. In: a configuration's rules, or an
//! operator's patterns, and the paths that changed. Out: the effect, or whether the change is passed over. Reads no file.

use super::glob::PathGlob;
use super::locate::PATHS;
use super::model::{Effect, RepositoryConfig};

impl RepositoryConfig {
    /// The strongest effect of all changed paths: of the rules that match a path the strongest, and [`Effect::Evaluate`]
    /// where none does. The configuration itself has at least that, whatever a rule says, and so has a change without a
    /// path, for nobody said that it does nothing.
    #[must_use]
    pub fn effect_of<'a>(&self, changed: impl IntoIterator<Item = &'a str>) -> Effect {
        changed.into_iter().map(|path| self.effect_of_one(path)).max().unwrap_or(Effect::Evaluate)
    }

    fn effect_of_one(&self, path: &str) -> Effect {
        let matching = self.change_set.iter().filter(|rule| rule.paths.iter().any(|glob| glob.matches(path)));
        let effect = matching.map(|rule| rule.effect).max().unwrap_or(Effect::Evaluate);
        if is_config(path) { effect.max(Effect::Evaluate) } else { effect }
    }
}

/// Is a change passed over by `[rebuild] skip_paths`? Only when every changed path matches one of the patterns, and there
/// is one; a change of the configuration itself never is.
#[must_use]
pub fn is_skipped<'a>(skip_paths: &[PathGlob], changed: impl IntoIterator<Item = &'a str>) -> bool {
    let mut changed = changed.into_iter().peekable();
    let covered = |path: &str| !is_config(path) && skip_paths.iter().any(|glob| glob.matches(path));
    changed.peek().is_some() && changed.all(covered)
}

fn is_config(path: &str) -> bool {
    PATHS.contains(&path)
}
