//! Finding and bringing tools: all that are needed at once, before anything else is done.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, bail};

use super::tool::Source;
use super::{ALL, Tool, debian, find, is_bare};

/// A tool, and what needs it.
pub(crate) struct Need {
    tool: &'static Tool,
    /// For messages, such as the names of steps.
    by: String,
    /// Nothing needs it but the tools that it brings.
    is_client_only: bool,
}

impl Need {
    pub(crate) fn new(tool: &'static Tool, by: impl Into<String>) -> Need {
        Need {
            tool,
            by: by.into(),
            is_client_only: false,
        }
    }
}

/// Whether packages may be installed into the system.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum System {
    /// By apt, where we are root.
    Extended,
    /// Never.
    Untouched,
}

/// Where each tool is.
#[derive(Default)]
pub(crate) struct Provided(HashMap<&'static str, PathBuf>);

impl Provided {
    /// The path of a tool that was asked for.
    ///
    /// # Errors
    /// It was not asked for, which is a mistake in the list of needs.
    pub(crate) fn path(&self, tool: &Tool) -> anyhow::Result<PathBuf> {
        let path = self.0.get(tool.name).cloned();
        path.with_context(|| format!("{} is not among the declared needs", tool.name))
    }

    /// All of them, by name.
    pub(crate) fn list(&self) -> Vec<(&'static str, &Path)> {
        let list = ALL
            .iter()
            .filter_map(|tool| Some((tool.name, self.0.get(tool.name)?.as_path())));
        list.collect()
    }
}

/// A tool that cannot be had.
struct Missing<'a> {
    need: &'a Need,
    /// Why not, by source.
    reasons: Vec<String>,
}

/// Finds all tools, and brings those that are not there.
///
/// One call of apt installs all that it has, if the system may be extended; everything else is brought
/// into `target/tools`, several at once. Says of each tool that it brings where it comes from.
///
/// # Errors
/// Some cannot be had: a list of all of them, and the line that installs them.
pub(crate) fn provide(needs: &[Need], system: System) -> anyhow::Result<Provided> {
    let needs = with_clients(needs)?;
    let mut provided = Provided::default();
    let mut absent = Vec::new();
    for need in &needs {
        match (need.tool.find)()? {
            Some(path) => drop(provided.0.insert(need.tool.name, path)),
            None => absent.push(need),
        }
    }
    let mut why_not_apt = None;
    if system == System::Extended && !is_bare() && debian::can_install()? {
        let packages: BTreeSet<&str> = absent
            .iter()
            .filter_map(|it| apt(it.tool))
            .flatten()
            .copied()
            .collect();
        if !packages.is_empty() {
            let list: Vec<&str> = packages.iter().copied().collect();
            eprintln!("installing by apt: {}", list.join(" "));
            why_not_apt = debian::install(&packages).err();
            if let Some(error) = &why_not_apt {
                eprintln!("apt cannot install them: {error:#}");
            }
        }
    }
    let mut missing = Vec::new();
    // Clients first, one after the other; what they bring then comes side by side.
    let (clients, others): (Vec<_>, Vec<_>) = absent.into_iter().partition(|it| is_client(it.tool));
    for need in clients {
        match bring(need.tool) {
            Ok(path) => drop(provided.0.insert(need.tool.name, path)),
            Err(reasons) => missing.push(Missing { need, reasons }),
        }
    }
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for need in others {
            let results = &results;
            // Debian's packages share one folder and npm's one cache: these are brought in turn.
            scope.spawn(move || {
                let result = bring(need.tool);
                results
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push((need, result));
            });
        }
    });
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for (need, result) in results {
        match result {
            Ok(path) => drop(provided.0.insert(need.tool.name, path)),
            Err(reasons) => missing.push(Missing { need, reasons }),
        }
    }
    // A client that nobody needs for itself is missed only by what it would have brought.
    missing.retain(|it| !it.need.is_client_only);
    if missing.is_empty() {
        return Ok(provided);
    }
    if let Some(error) = why_not_apt {
        for it in &mut missing {
            if apt(it.need.tool).is_some() {
                it.reasons
                    .insert(0, format!("apt: {}", first_line(&format!("{error:#}"))));
            }
        }
    }
    missing.sort_by_key(|it| ALL.iter().position(|tool| *tool == it.need.tool));
    bail!("{}", report(&missing, Manager::here()?))
}

/// The needs in the order of [`ALL`], with the clients that those of them need which are not there.
fn with_clients(needs: &[Need]) -> anyhow::Result<Vec<Need>> {
    let mut by: HashMap<&str, Vec<&str>> = HashMap::new();
    for need in needs {
        by.entry(need.tool.name).or_default().push(&need.by);
        if (need.tool.find)()?.is_none() {
            for source in need.tool.sources {
                if let Source::Registry {
                    client: Some(client),
                    ..
                } = source
                {
                    by.entry(client.name).or_default();
                    for source in client.sources {
                        if let Source::Registry {
                            client: Some(client),
                            ..
                        } = source
                        {
                            by.entry(client.name).or_default();
                        }
                    }
                }
            }
        }
    }
    let known = ALL.iter().filter_map(|tool| {
        let by = by.get(tool.name)?;
        let by: BTreeSet<&str> = by.iter().copied().filter(|it| !it.is_empty()).collect();
        let by: Vec<&str> = by.into_iter().collect();
        Some(Need {
            tool,
            by: by.join(", "),
            is_client_only: !needs.iter().any(|need| need.tool == *tool),
        })
    });
    Ok(known.collect())
}

fn is_client(tool: &Tool) -> bool {
    ALL.iter().any(|other| {
        other.sources.iter().any(|source| {
            matches!(source, Source::Registry { client: Some(client), .. } if *client == tool)
        })
    })
}

/// The packages that apt has of a tool, if apt is the first source.
fn apt(tool: &Tool) -> Option<&'static [&'static str]> {
    match tool.sources.first()? {
        Source::Apt(packages) => Some(packages),
        _ => None,
    }
}

/// Finds a tool that apt may have installed just now, or brings it; else why not.
fn bring(tool: &'static Tool) -> Result<PathBuf, Vec<String>> {
    static IN_TURN: Mutex<()> = Mutex::new(());
    let find = || (tool.find)().map_err(|error| vec![format!("{error:#}")]);
    if let Some(path) = find()? {
        return Ok(path);
    }
    let mut reasons = Vec::new();
    for source in tool.sources {
        let what = source.what();
        match source {
            Source::Apt(_) => continue,
            Source::Unpacked { .. } => eprintln!("{}: {what}, into target/tools", tool.name),
            Source::Registry {
                client: Some(client),
                ..
            } => {
                if !matches!((client.find)(), Ok(Some(_))) {
                    reasons.push(format!("{what} needs {}", client.name));
                    continue;
                }
                eprintln!("{}: {what}, into target/tools", tool.name);
            }
            Source::Registry { .. } => eprintln!("{}: {what}", tool.name),
        }
        let brought = {
            let _turn = matches!(source, Source::Unpacked { .. }).then(|| {
                IN_TURN
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            });
            source.bring()
        };
        match brought
            .map_err(|error| vec![format!("{error:#}")])
            .and_then(|()| find())
        {
            Ok(Some(path)) => return Ok(path),
            Ok(None) => reasons.push(format!("{what}: it does not run here")),
            Err(error) => reasons.push(format!("{what}: {}", first_line(&error.join("; ")))),
        }
    }
    Err(reasons)
}

/// The line of a program's message that tells most: the last one that speaks of an error, else the first.
fn first_line(text: &str) -> &str {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    match text
        .lines()
        .rfind(|line| line.trim_start().starts_with("ERROR: "))
    {
        Some(error) if error != first => error.trim(),
        _ => first.trim(),
    }
}

/// The package manager of this machine.
#[derive(Clone, Copy, PartialEq)]
enum Manager {
    Apt,
    Dnf,
    Brew,
    Unknown,
}

impl Manager {
    fn here() -> anyhow::Result<Manager> {
        for (program, manager) in [
            ("apt-get", Manager::Apt),
            ("dnf", Manager::Dnf),
            ("brew", Manager::Brew),
        ] {
            if find(&[program])?.is_some() {
                return Ok(manager);
            }
        }
        Ok(Manager::Unknown)
    }

    fn packages(self, tool: &Tool) -> Vec<&'static str> {
        match self {
            Manager::Apt => {
                let apt = tool.sources.iter().find_map(|source| match source {
                    Source::Apt(packages) => Some(packages.to_vec()),
                    _ => None,
                });
                apt.unwrap_or_default()
            }
            Manager::Dnf => tool.dnf.into_iter().collect(),
            Manager::Brew => tool.brew.into_iter().collect(),
            Manager::Unknown => Vec::new(),
        }
    }
}

/// One list of all that is missing, and one line that installs it.
fn report(missing: &[Missing], manager: Manager) -> String {
    let mut text = match missing.len() {
        1 => "1 tool is missing:".to_owned(),
        number => format!("{number} tools are missing:"),
    };
    let width = missing.iter().map(|it| it.need.tool.name.len()).max();
    let mut packages = BTreeSet::new();
    let mut has_none = false;
    for Missing { need, reasons } in missing {
        let _ = write!(
            text,
            "\n  {:width$}",
            need.tool.name,
            width = width.unwrap_or(0)
        );
        if !need.by.is_empty() {
            let _ = write!(text, "  for {}", need.by);
        }
        for reason in reasons {
            let _ = write!(text, "\n      {reason}");
        }
        // What a registry has is brought as soon as its client is there.
        let mut of_tool = manager.packages(need.tool);
        for source in need.tool.sources {
            if let Source::Registry {
                client: Some(client),
                ..
            } = source
                && of_tool.is_empty()
                && !matches!((client.find)(), Ok(Some(_)))
            {
                of_tool = manager.packages(client);
            }
        }
        has_none |= of_tool.is_empty();
        packages.extend(of_tool);
    }
    let packages: Vec<&str> = packages.into_iter().collect();
    let packages = packages.join(" ");
    if !packages.is_empty() {
        let line = match manager {
            Manager::Apt => format!("apt-get install {packages}"),
            Manager::Dnf => format!("dnf install {packages}"),
            Manager::Brew | Manager::Unknown => format!("brew install {packages}"),
        };
        let _ = write!(text, "\nfix: `{line}`");
    }
    if has_none {
        let _ = write!(
            text,
            "\nfix: give this machine a network with package registries, or install them by hand and put them on the PATH"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::{CFN_LINT, MOSQUITTO, NGINX};

    #[test]
    fn everything_missing_is_one_list_and_one_line() {
        let nginx = Need::new(&NGINX, "end-to-end");
        let mosquitto = Need::new(&MOSQUITTO, "mosquitto");
        let missing = [
            Missing {
                need: &nginx,
                reasons: vec!["Debian's packages unpacked: nginx: no network".to_owned()],
            },
            Missing {
                need: &mosquitto,
                reasons: Vec::new(),
            },
        ];
        assert_eq!(
            report(&missing, Manager::Apt),
            "2 tools are missing:\n\
             \x20 nginx                for end-to-end\n\
             \x20     Debian's packages unpacked: nginx: no network\n\
             \x20 mosquitto's clients  for mosquitto\n\
             fix: `apt-get install mosquitto-clients nginx-light`"
        );
        let text = report(&missing, Manager::Brew);
        assert!(
            text.ends_with("fix: `brew install mosquitto nginx`"),
            "{text}"
        );
        // Without a package manager that we know, the reader is told so.
        let text = report(&missing, Manager::Unknown);
        assert!(text.contains("by hand"), "{text}");
    }

    #[test]
    fn needs_are_joined_by_tool_in_the_order_of_the_list() -> anyhow::Result<()> {
        let needs = [
            Need::new(&NGINX, "end-to-end"),
            Need::new(&NGINX, "bare"),
            Need::new(&CFN_LINT, "cfn-lint"),
        ];
        let needs = with_clients(&needs)?;
        let nginx = needs.iter().find(|it| *it.tool == NGINX);
        assert_eq!(nginx.map(|it| it.by.as_str()), Some("bare, end-to-end"));
        let place = |tool| ALL.iter().position(|it| *it == tool);
        assert!(needs.is_sorted_by_key(|it| place(it.tool)));
        Ok(())
    }

    #[test]
    fn reason_is_the_line_that_tells_most() {
        let pip = "pip failed (exit status: 1): WARNING: Retrying\nERROR: No matching distribution found for x";
        assert_eq!(
            first_line(pip),
            "ERROR: No matching distribution found for x"
        );
        assert_eq!(first_line("\nno network\nmore"), "no network");
    }
}
