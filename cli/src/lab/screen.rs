//! Shows the lab: a table for people, JSON for programs.

use std::io::Write;
use std::time::Duration;

use super::Output;
use super::view::View;

/// Where the lab is shown, and what was shown last.
pub(crate) struct Screen {
    output: Output,
    once: bool,
    /// On a terminal the table is drawn in place; elsewhere each change is printed below the last.
    is_terminal: bool,
    shown: Option<View>,
}

impl Screen {
    /// Nothing is shown as yet.
    pub(crate) fn new(output: Output, once: bool, is_terminal: bool) -> Self {
        Self { output, once, is_terminal, shown: None }
    }

    /// Shows what changed; with `--once` the only view that counts is the last.
    pub(crate) fn show(&mut self, view: &View) -> std::io::Result<()> {
        if self.once || self.shown.as_ref() == Some(view) {
            return Ok(());
        }
        self.print(view)?;
        self.shown = Some(view.clone());
        Ok(())
    }

    /// Shows the last view of `--once`. The documented JSON has no place for what is not announced; stderr has.
    #[allow(clippy::print_stderr, reason = "a word to the user beside the output, which may be read by a program")]
    pub(crate) fn conclude(&mut self, view: &View) -> std::io::Result<()> {
        if self.output == Output::Json {
            for silent in &view.silent {
                eprintln!("Not announced: {silent}");
            }
        }
        self.print(view)
    }

    /// Says what is missing after all this time.
    #[allow(clippy::print_stderr, reason = "the reason of a failure belongs on stderr, whatever the log level is")]
    pub(crate) fn complain(&self, view: &View, waited: Duration) {
        eprintln!("After {} s this is missing:", waited.as_secs());
        for missing in &view.missing {
            eprintln!("  {missing}");
        }
    }

    fn print(&self, view: &View) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Json => {
                serde_json::to_writer(&mut out, view)?;
                writeln!(out)?;
            }
            Output::Table => {
                if self.is_terminal && !self.once {
                    // Clear the screen and go to its upper left corner.
                    write!(out, "\x1b[2J\x1b[H")?;
                }
                write!(out, "{}", table(view))?;
                if !self.once {
                    writeln!(out, "Edit a manifest and watch; Ctrl-C ends the lab.\n")?;
                }
            }
        }
        out.flush()
    }
}

fn table(view: &View) -> String {
    let mut services = vec![["SERVICE", "ADDRESSES", "POOL", "ANNOUNCED BY"].map(str::to_owned)];
    services.extend(view.services.iter().map(|service| {
        [
            format!("{}/{}", service.namespace, service.name),
            or_dash(join(&service.addresses)),
            or_dash(service.pool.clone().unwrap_or_default()),
            or_dash(join(&service.nodes)),
        ]
    }));
    let mut routes = vec![["ROUTE", "NEXT HOPS", "COMMUNITIES", ""].map(str::to_owned)];
    routes.extend(view.routes.iter().map(|route| {
        [route.prefix.to_string(), join(&route.next_hops), or_dash(route.communities.join(" ")), String::new()]
    }));
    let mut text = format!("{}\n{}\n", columns(&services), columns(&routes));
    for (title, lines) in [("NOT ANNOUNCED", &view.silent), ("WAITING FOR", &view.missing)] {
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n{}\n\n", lines.join("\n")));
        }
    }
    text
}

/// Rows with their columns aligned.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn join<'a, T: ToString + 'a>(values: impl IntoIterator<Item = &'a T>) -> String {
    values.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
