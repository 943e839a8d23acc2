//! A review on a terminal, as Markdown for a pull request, and as JSON.

use serde_json::{Value as Json, json};

use crate::{Finding, Part, Review, Weight};

/// First line of the Markdown, by which the comment of an earlier run is found again.
const MARK: &str = "<!-- cargo xtask review -->";

/// How a piece of text is meant, for colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A title
    Title,
    /// Something that somebody must look at
    Grave,
    /// Something that is fine
    Good,
    /// Something beside the point
    Faint,
}

impl Review {
    /// As lines for a terminal. `paint` colours a piece of text, or leaves it as it is.
    pub fn text(&self, paint: &dyn Fn(Tone, &str) -> String) -> String {
        let mut text = format!("compared with {}\n", self.base);
        for note in &self.notes {
            text.push_str(&format!(
                "{}: {}\n",
                paint(Tone::Grave, "note"),
                visible(note)
            ));
        }
        if self.parts.is_empty() {
            text.push_str(&format!(
                "\n{}\n",
                paint(Tone::Good, "the infrastructure stays as it is")
            ));
            return text;
        }
        for part in &self.parts {
            text.push_str(&format!("\n{}\n", paint(Tone::Title, &part.title)));
            for (weight, findings) in part.by_weight() {
                let tone = if weight.is_grave() {
                    Tone::Grave
                } else {
                    Tone::Title
                };
                text.push_str(&format!("  {}\n", paint(tone, &weight.to_string())));
                for Finding {
                    headline,
                    details,
                    place,
                    ..
                } in findings
                {
                    text.push_str(&format!("    {}\n", visible(headline)));
                    for detail in details {
                        text.push_str(&format!("        {}\n", visible(detail)));
                    }
                    if let Some(place) = place {
                        let place = visible(place);
                        text.push_str(&format!("        {}\n", paint(Tone::Faint, &place)));
                    }
                }
            }
        }
        text.push_str(&format!("\n{}\n", self.verdict()));
        text
    }

    /// As Markdown, for a comment on a pull request.
    pub fn markdown(&self) -> String {
        let mut text = format!("{MARK}\n## What this does to the infrastructure\n\n");
        text.push_str(&format!(
            "Compared with {}. {}\n",
            self.base,
            capital(&self.verdict())
        ));
        for note in &self.notes {
            text.push_str(&format!("\n> **Note:** {}\n", escaped(note)));
        }
        for part in &self.parts {
            text.push_str(&format!("\n### {}\n", escaped(&part.title)));
            for (weight, findings) in part.by_weight() {
                let sign = if weight.is_grave() { "⚠️ " } else { "" };
                text.push_str(&format!(
                    "\n#### {sign}{}\n\n",
                    capital(&weight.to_string())
                ));
                for Finding {
                    headline,
                    details,
                    place,
                    ..
                } in findings
                {
                    text.push_str(&format!("- {}", escaped(headline)));
                    if let Some(place) = place {
                        text.push_str(&format!(" (`{place}`)"));
                    }
                    text.push('\n');
                    for detail in details {
                        text.push_str(&format!("  - {}\n", escaped(detail.trim_start())));
                    }
                }
            }
        }
        text
    }

    /// For a machine.
    pub fn json(&self) -> Json {
        let finding = |finding: &Finding| {
            json!({
                "weight": format!("{:?}", finding.weight).to_lowercase(),
                "grave": finding.weight.is_grave(),
                "headline": finding.headline,
                "details": finding.details,
                "place": finding.place,
            })
        };
        let part = |part: &Part| {
            let findings: Vec<Json> = part.findings.iter().map(finding).collect();
            json!({ "title": part.title, "findings": findings })
        };
        json!({
            "base": self.base,
            "notes": self.notes,
            "grave": self.is_grave(),
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
        })
    }

    /// One line about everything.
    fn verdict(&self) -> String {
        let count = |weight: Weight| self.findings().filter(|it| it.weight == weight).count();
        let counts: Vec<String> = Weight::ALL
            .into_iter()
            .filter(|weight| weight.is_grave() && count(*weight) > 0)
            .map(|weight| format!("{weight} ({})", count(weight)))
            .collect();
        match (counts.is_empty(), self.parts.is_empty()) {
            (_, true) => "the infrastructure stays as it is.".to_owned(),
            (true, _) => "nothing is replaced, removed, widened, opened or weakened.".to_owned(),
            (false, _) => format!("to look at: {}.", counts.join(", ")),
        }
    }
}

impl Part {
    /// The findings of each weight that there is.
    fn by_weight(&self) -> Vec<(Weight, Vec<&Finding>)> {
        let of = |weight| self.findings.iter().filter(move |it| it.weight == weight);
        Weight::ALL
            .into_iter()
            .map(|weight| (weight, of(weight).collect::<Vec<_>>()))
            .filter(|(_, findings)| !findings.is_empty())
            .collect()
    }
}

/// Text with everything that a terminal would obey or that turns its direction as an escape. Names and
/// values come from the templates, so from whoever opened the pull request.
fn visible(text: &str) -> String {
    let obeys = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match obeys(c) {
            true => result.extend(c.escape_default()),
            false => result.push(c),
        }
    }
    result
}

/// Text that Markdown and HTML would take for their own, as it is.
fn escaped(text: &str) -> String {
    let text = visible(text);
    // A list's mark at the beginning.
    let mark = text.find(|c: char| !c.is_ascii_digit()).unwrap_or_default();
    let marks = match text.as_bytes().get(mark) {
        Some(b'+' | b'-') if mark == 0 => Some(0),
        Some(b'.' | b')') if mark > 0 => Some(mark),
        _ => None,
    };
    let mut result = String::with_capacity(text.len());
    for (place, c) in text.char_indices() {
        if marks == Some(place) {
            result.push('\\');
        }
        match c {
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '&' => result.push_str("&amp;"),
            // GitHub would tell the person of that name.
            '@' => result.push_str("@\u{200b}"),
            '*' | '_' | '`' | '[' | ']' | '\\' | '|' | '~' => result.extend(['\\', c]),
            // GitHub would make a link of an address or of an issue's number.
            '#' => result.push_str("\\#\u{200b}"),
            '/' if text[..place].ends_with(":/") => result.push_str("/\u{200b}"),
            '.' if text[..place].to_ascii_lowercase().ends_with("www") => {
                result.push_str(".\u{200b}");
            }
            '-' if text[..place].to_ascii_uppercase().ends_with("GH") => {
                result.push_str("-\u{200b}");
            }
            c => result.push(c),
        }
    }
    result
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
