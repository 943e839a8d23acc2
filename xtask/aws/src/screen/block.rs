//! The live block on a terminal: resources under way, their elapsed and usual times, and the critical path.
//!
//! Pure: state in, lines out. No line is wider than the screen, because a line that wraps cannot be drawn
//! over.

use crate::screen::typical;

/// Maximum columns of a logical ID, so that the times stay visible.
const WIDEST_ID: usize = 28;

/// A resource that is under way.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) id: &'a str,
    pub(crate) what: &'static str,
    /// Seconds
    pub(crate) elapsed: u32,
    /// Seconds that it usually takes.
    pub(crate) usually: Option<u32>,
}

/// State of an operation, as the block shows it.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// Seconds since the operation began.
    pub(crate) elapsed: u32,
    pub(crate) done: usize,
    /// Number of resources that change, if known.
    pub(crate) of: Option<usize>,
    /// Seconds until the end, if known.
    pub(crate) left: Option<u32>,
    /// Whether a resource failed and CloudFormation rolls back.
    pub(crate) goes_back: bool,
    pub(crate) rows: Vec<Row<'a>>,
    /// The critical path.
    pub(crate) chain: &'a [String],
}

/// A line, and whether it shows the first resource of the critical path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) decides: bool,
}

impl Block<'_> {
    /// The lines for a screen of this size.
    pub(crate) fn lines(&self, columns: usize, rows: usize) -> Vec<Line> {
        let mut lines = vec![plain(self.head())];
        let ids = self.rows.iter().map(|row| row.id.chars().count());
        let width = ids.max().unwrap_or_default().min(WIDEST_ID);
        let first = self.chain.first().map(String::as_str);
        let (deciding, others): (Vec<_>, Vec<_>) =
            self.rows.iter().partition(|row| Some(row.id) == first);
        // The head, the chain, what is left out, and the cursor take a line each.
        let room = rows.saturating_sub(4).max(1);
        let shown = self.rows.len().min(room);
        for (index, row) in deciding.iter().chain(&others).take(shown).enumerate() {
            let decides = index < deciding.len();
            let is_last = index + 1 == self.rows.len();
            let branch = if is_last { "└─" } else { "├─" };
            lines.push(Line {
                text: format!("  {branch} {}", row.text(width)),
                decides,
            });
            if decides {
                let bar = if is_last { ' ' } else { '│' };
                let mut text = format!("  {bar}  critical path");
                if self.chain.len() > 1 {
                    text.push_str(&format!(", then {}", self.chain[1..].join(" → ")));
                }
                lines.push(plain(text));
            }
        }
        if deciding.is_empty() && !self.chain.is_empty() {
            lines.push(plain(format!("     next {}", self.chain.join(" → "))));
        }
        let hidden = self.rows.len() - shown;
        if hidden > 0 {
            lines.push(plain(format!("  └─ and {hidden} more")));
        }
        for line in &mut lines {
            line.text = cut(&line.text, columns.saturating_sub(1));
        }
        lines
    }

    fn head(&self) -> String {
        let mut head = format!("  {}  {}", clock(self.elapsed), self.done);
        if let Some(of) = self.of {
            head.push_str(&format!(" of {of}"));
        }
        head.push_str(&format!(" done, {} under way", self.rows.len()));
        if self.goes_back {
            head.push_str("; a resource failed, so CloudFormation rolls back");
        } else if let Some(left) = self.left.filter(|left| *left > 0) {
            head.push_str(&format!("; usually {} more", typical::in_words(left)));
        }
        head
    }
}

impl Row<'_> {
    fn text(&self, width: usize) -> String {
        let id = cut(self.id, width);
        let mut text = format!("{id:width$}  {}  {}", self.what, clock(self.elapsed));
        if let Some(usually) = self.usually {
            text.push_str(&format!(" of about {}", typical::in_words(usually)));
        }
        text
    }
}

fn plain(text: String) -> Line {
    Line {
        text,
        decides: false,
    }
}

/// Minutes and seconds; every character of our texts takes one column.
fn clock(seconds: u32) -> String {
    format!("{:2}:{:02}", seconds / 60, seconds % 60)
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let start: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &'static str, elapsed: u32, usually: Option<u32>) -> Row<'static> {
        Row {
            id,
            what: "is being created",
            elapsed,
            usually,
        }
    }

    fn shown(block: &Block, columns: usize, rows: usize) -> String {
        let lines = block.lines(columns, rows);
        assert!(lines.len() < rows, "{lines:?}");
        for line in &lines {
            assert!(line.text.chars().count() < columns, "{line:?}");
        }
        let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
        lines.join("\n")
    }

    #[test]
    fn deciding_resource_stands_first_with_what_waits_for_it() {
        let chain = [
            "Cache",
            "WebInstanceRole",
            "WebInstanceProfile",
            "DashboardEnvironment",
        ]
        .map(str::to_owned);
        let block = Block {
            elapsed: 125,
            done: 12,
            of: Some(75),
            left: Some(1083),
            goes_back: false,
            rows: vec![
                row("FunctionRole", 12, Some(18)),
                row("Cache", 65, Some(712)),
                row("Vpc", 3, None),
            ],
            chain: &chain,
        };
        insta::assert_snapshot!(shown(&block, 80, 24), @r"
         2:05  12 of 75 done, 3 under way; usually 18 min more
        ├─ Cache         is being created   1:05 of about 12 min
        │  critical path, then WebInstanceRole → WebInstanceProfile → DashboardEnvir…
        ├─ FunctionRole  is being created   0:12 of about 18 s
        └─ Vpc           is being created   0:03
        ");
        insta::assert_snapshot!(shown(&block, 40, 6), @r"
         2:05  12 of 75 done, 3 under way; u…
        ├─ Cache         is being created   …
        │  critical path, then WebInstanceRo…
        ├─ FunctionRole  is being created   …
        └─ and 1 more
        ");
    }

    #[test]
    fn going_back_promises_no_end() {
        let block = Block {
            elapsed: 7,
            done: 3,
            of: None,
            left: None,
            goes_back: true,
            rows: vec![row("Cache", 5, None)],
            chain: &[],
        };
        insta::assert_snapshot!(shown(&block, 120, 24), @r"
         0:07  3 done, 1 under way; a resource failed, so CloudFormation rolls back
        └─ Cache  is being created   0:05
        ");
    }

    #[test]
    fn chain_is_shown_while_its_first_has_not_begun() {
        let chain = ["Cache".to_owned(), "Site".to_owned()];
        let block = Block {
            elapsed: 0,
            done: 0,
            of: Some(2),
            left: Some(964),
            goes_back: false,
            rows: Vec::new(),
            chain: &chain,
        };
        insta::assert_snapshot!(shown(&block, 80, 24), @r"
        0:00  0 of 2 done, 0 under way; usually 16 min more
          next Cache → Site
        ");
    }
}
