//! Patterns: translation from JavaScript's dialect, which the schemas use, to Rust's.

/// Translates a pattern for Rust's engines: in a character class, `[`, `&&`, `--` and `~~` are plain characters
/// in JavaScript and set operations in Rust.
pub fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    let mut class_is_empty = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                translated.push(character);
                match characters.next() {
                    // An escaped slash is a slash; Rust does not support that escape everywhere.
                    Some('/') => {
                        translated.pop();
                        translated.push('/');
                    }
                    Some(escaped) => translated.push(escaped),
                    None => {}
                }
                class_is_empty = false;
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                class_is_empty = true;
                translated.push(character);
                if characters.peek() == Some(&'^') {
                    translated.extend(characters.next());
                }
                continue;
            }
            '[' => translated.push_str("\\["),
            ']' if in_class && !class_is_empty => {
                in_class = false;
                translated.push(character);
            }
            '&' | '~' if in_class && characters.peek() == Some(&character) => {
                translated.push('\\');
                translated.push(character);
            }
            _ => translated.push(character),
        }
        class_is_empty = false;
    }
    translated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_mean_what_javascript_means() {
        for (pattern, expected) in [
            (r"^[a-z]+$", r"^[a-z]+$"),
            (r"^([@[\]+=&;])*$", r"^([@\[\]+=&;])*$"),
            (r"[a&&b]", r"[a\&&b]"),
            (r"a\/b", "a/b"),
            (r"[^]]x[[]", r"[^]]x[\[]"),
        ] {
            assert_eq!(translate(pattern), expected, "{pattern}");
            assert!(
                fancy_regex::Regex::new(&translate(pattern)).is_ok(),
                "{pattern}"
            );
        }
    }
}
