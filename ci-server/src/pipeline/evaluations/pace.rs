//! How often it is said how far an evaluation is. In: how much is known, and the time; out: whether that is to be said now.
//! Pure. What it comes to in the end is said with its end, whatever was said before.

use std::time::Duration;

use service_kit::clock::Mono;

/// How many attributes may become known between two words about progress.
const TOLD_EVERY: usize = 16;
/// How old the last word is, at most, when something happens: memory that is used, say.
const TOLD_AFTER: Duration = Duration::from_millis(100);

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Pace(Option<(usize, Mono)>);

impl Pace {
    /// Is it to be said that so many attributes are known? Then it counts as said.
    pub(super) fn is_due(&mut self, known: usize, now: Mono) -> bool {
        let is_due = match self.0 {
            None | Some((0, _)) if known > 0 => true, // the first one
            None => true,
            Some((said, at)) => known >= said + TOLD_EVERY || now.since(at) >= TOLD_AFTER,
        };
        if is_due {
            self.0 = Some((known, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_then_every_few_or_after_a_while() {
        let mut pace = Pace::default();
        let moments =
            [(0, 0), (0, 99), (1, 99), (2, 100), (16, 110), (17, 111), (18, 210), (18, 211), (18, 310)];
        let said = moments
            .into_iter()
            .filter(|(known, at)| pace.is_due(*known, Mono::default() + Duration::from_millis(*at)));
        assert_eq!(said.collect::<Vec<_>>(), [(0, 0), (1, 99), (17, 111), (18, 211)]);
    }
}
