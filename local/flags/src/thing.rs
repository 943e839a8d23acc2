//! Names of IoT things.

/// Accepted names, shown when a name is refused.
pub const EXPECTED: &str = "1 to 128 letters, digits, `:`, `_` or `-`";

/// Whether AWS allows a thing to have this name ("CreateThing", AWS IoT API Reference).
pub fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b":_-".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thing_names_are_those_of_aws() {
        for name in ["kitchen", "a:b_c-9", &"x".repeat(128)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "a/b", "..", "ü", "a.b", &"x".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
