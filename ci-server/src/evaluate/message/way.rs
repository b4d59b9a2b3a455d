//! The way to an error. In: what an evaluator said, with the steps from the outside to what failed; out: the steps without
//! those of our own expression, and the assertion that they name. Leaves out what the error is.

use super::cut;

/// Most bytes of an assertion in a message: what it was about comes behind it.
const ASSERTION_BYTES_MAX: usize = 512;

/// The message with the assertion, where that failed for two values that are not equal: newer releases name it on the way
/// to the error alone, before the ways into the two values.
pub(super) fn with_assertion(message: String, said: &str) -> String {
    const WAY: &str = "… while evaluating the condition of the assertion '";
    const COMPARES: [&str; 3] = [" is not equal to ", " differs from ", " compare as unequal"];
    let assertion =
        || said.lines().rev().find_map(|line| line.trim_start().strip_prefix(WAY)?.strip_suffix('\''));
    match COMPARES.iter().any(|words| message.contains(words)).then(assertion).flatten() {
        Some(assertion) => {
            format!("assertion '{}' failed: {message}", cut(assertion, ASSERTION_BYTES_MAX))
        }
        None => message,
    }
}

/// A trace without what it says of our own expression, which is around all that is evaluated. Since 2.13 the way to an error
/// is told from the outside.
pub(super) fn without_own_steps(said: &str) -> String {
    const OWN: &str = "at «stdin»:";
    let mut kept: Vec<&str> = Vec::new();
    // Where the step begins that a line is of, and whether it is ours.
    let (mut step, mut is_own) = (None, false);
    for line in said.lines() {
        let text = line.trim_start();
        if ["…", "error:", "(stack trace"].iter().any(|begins| text.starts_with(begins)) {
            (step, is_own) = (text.starts_with('…').then_some(kept.len()), false);
        } else if let Some(begins) = step
            && text.starts_with(OWN)
        {
            kept.truncate(begins);
            is_own = true;
        }
        if !is_own {
            kept.push(line);
        }
    }
    kept.into_iter().flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use nix_types::AttrPath;

    use super::super::error;

    /// As Nix 2.26 and 2.34 tell it.
    #[test]
    fn the_way_to_an_error_is_told_without_our_own_expression() {
        let said = "error:
       … while calling the 'trace' builtin
         at «stdin»:22:23:
           21|
           22|   tell = marks: next: trace x next;
             |                       ^

       … while evaluating the condition of the assertion '(a == 2)'
         at /c/default.nix:3:7:
            2|
            3|   a = assert a == 2; b;
             |       ^

       … from call site
         at «stdin»:1:1:
            1| x

       (3 duplicate frames omitted)

       error: an integer with value '1' is not equal to an integer with value '2'
       at «stdin»:1:1:
";
        let error = error(AttrPath::root(), None, said);
        assert_eq!(
            error.message,
            "assertion '(a == 2)' failed: an integer with value '1' is not equal to an integer with value '2'"
        );
        assert_eq!(
            error.trace,
            "error:
       … while evaluating the condition of the assertion '(a == 2)'
         at /c/default.nix:3:7:
            2|
            3|   a = assert a == 2; b;
             |       ^

       error: an integer with value '1' is not equal to an integer with value '2'
       at «stdin»:1:1:
"
        );
    }

    /// As Nix 2.34 tells of `assert [ 1 ] == [ 2 ]`, and 2.18 of a failure in what we call.
    #[test]
    fn ways_into_what_is_compared_and_empty_lines_between_change_nothing() {
        let said = "error:
       … while evaluating the condition of the assertion '([ (1) ] == [ (2) ])'
         at /c/default.nix:1:1:
            1| x

       … while comparing list element 0

       … where left hand side is
         at /c/default.nix:1:3:
            1| x

       error: an integer with value '1' is not equal to an integer with value '2'
";
        let message = error(AttrPath::root(), None, said).message;
        assert!(message.starts_with("assertion '([ (1) ] == [ (2) ])' failed: an integer with"), "{message}");
        let long = said.replace("[ (1) ]", &"x ".repeat(3_000));
        let message = error(AttrPath::root(), None, &long).message;
        assert!(message.ends_with("to an integer with value '2'"), "{message}");
        let said = "error:
       … while calling the 'trace' builtin

         at «stdin»:22:23:

           21|
           22| x
             | ^

       … while calling the 'import' builtin

         at /c/default.nix:1:1:

            1| import ./x

       error: attribute 'y' missing
";
        let trace = error(AttrPath::root(), None, said).trace;
        assert!(!trace.contains("stdin") && !trace.contains("22| x"), "{trace}");
        assert!(trace.contains("'import' builtin") && trace.contains("1| import ./x"), "{trace}");
    }
}
