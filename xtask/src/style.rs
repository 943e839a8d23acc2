//! Colours on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).

use std::env;
use std::io::IsTerminal;

/// Whether one output is coloured.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    coloured: bool,
}

pub(crate) fn stdout() -> Style {
    Style {
        coloured: std::io::stdout().is_terminal() && wanted(),
    }
}

pub(crate) fn stderr() -> Style {
    Style {
        coloured: std::io::stderr().is_terminal() && wanted(),
    }
}

fn wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Style {
    pub(crate) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn title(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
