//! `--format`: text with actions of Go's templates in double braces. Which actions there are is
//! the verb's.

/// Splits a template, each action read by `read`. None: there is no action in it.
/// Errors with what is wrong with it.
pub fn split<P>(
    text: &str,
    literal: fn(String) -> P,
    read: impl Fn(&str) -> Result<P, String>,
) -> Result<Option<Vec<P>>, String> {
    // The shell hands these over as they are written.
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let (mut pieces, mut rest) = (Vec::new(), text.as_str());
    while let Some((before, action)) = rest.split_once("{{") {
        let (action, after) = action
            .split_once("}}")
            .ok_or_else(|| format!("{{{{{action} has no }}}}"))?;
        if !before.is_empty() {
            pieces.push(literal(before.to_owned()));
        }
        pieces.push(read(action.trim())?);
        rest = after;
    }
    let has_action = rest.len() < text.len();
    if has_action && !rest.is_empty() {
        pieces.push(literal(rest.to_owned()));
    }
    Ok(has_action.then_some(pieces))
}
