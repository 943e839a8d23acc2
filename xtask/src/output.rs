//! Printing that outlives its reader: `println!` and the others as macros of this program.
//!
//! The standard library's panic when the reader has gone, as in `cargo xtask rule … | true`. Here the rest
//! of the output is dropped, and the command ends with the code that it would have ended with anyway.
//! `xtask/aws` and `xtask/mqtt` include this very file.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

macro_rules! print {
    ($($text:tt)*) => { $crate::output::write(std::io::stdout().lock(), format_args!($($text)*)) };
}

macro_rules! println {
    () => { print!("\n") };
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}

macro_rules! eprint {
    ($($text:tt)*) => { $crate::output::write(std::io::stderr().lock(), format_args!($($text)*)) };
}

macro_rules! eprintln {
    () => { eprint!("\n") };
    ($($text:tt)*) => { eprint!("{}\n", format_args!($($text)*)) };
}

/// Writes to stdout or stderr.
///
/// # Panics
/// The output cannot be written for another reason than a closed pipe, such as a full disk.
pub(crate) fn write(mut output: impl Write, text: Arguments<'_>) {
    if let Err(error) = written(output.write_fmt(text).and_then(|()| output.flush())) {
        panic!("cannot write the output: {error}");
    }
}

/// What came of writing: a reader that has gone is not an error.
pub(crate) fn written(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
