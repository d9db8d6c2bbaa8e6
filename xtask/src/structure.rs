//! The hard rules of the design, checked mechanically.
//!
//! They are few, and each protects something that a review overlooks: the pure crates stay pure because a test on
//! virtual time is only as good as its last hidden clock.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::step::cargo;

/// Crates that the engine without its driver must not reach: runtimes, sockets, clients, randomness.
const IMPURE_CRATES: &[&str] = &[
    "axum",
    "fastrand",
    "getrandom",
    "hyper",
    "k8s-openapi",
    "kube",
    "mio",
    "netlink-sys",
    "rand",
    "socket2",
    "tokio",
];

/// What pure source text must not contain.
const IMPURE_WORDS: &[&str] = &[
    "tokio::",
    "kube::",
    "socket2::",
    "rand::",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
];

/// Tests on virtual time need a first instant, and the standard library has no other.
const ORIGIN_OF_TIME: &str = "Instant::now";
const INLINE_TESTS: &str = "#[cfg(test)]\nmod tests {";

/// All rules; the error names every place that breaks one.
pub(crate) fn check() -> Result<()> {
    let mut broken = dependency_rules()?;
    broken.extend(purity(&rust_files("bgp/src")?, Path::new("bgp/src/driver"))?);
    broken.extend(purity(&rust_files("controller/src/plan")?, Path::new("no exception"))?);
    broken.extend(unsafe_rule()?);
    ensure!(broken.is_empty(), "hard rules are broken:\n  {}", broken.join("\n  "));
    Ok(())
}

/// Arrows point down only: what each crate may not reach.
fn dependency_rules() -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let rules: &[(&str, &[&str], &[&str])] = &[
        ("roadstead-bgp", &["--no-default-features"], IMPURE_CRATES),
        ("roadstead-bgp", &[], &["roadstead-api", "roadstead-controller", "roadstead-speaker"]),
        ("roadstead-api", &[], &["roadstead-bgp", "roadstead-controller", "roadstead-speaker"]),
        ("roadstead-controller", &[], &["roadstead-speaker"]),
        ("roadstead-speaker", &[], &["roadstead-controller"]),
        // It is started for every interface of every pod.
        ("roadstead-cni", &[], &["axum", "kube", "roadstead-api", "roadstead-bgp", "roadstead-speaker", "tokio"]),
        // The end-to-end tests see what a user sees: binaries and the network.
        (
            "roadstead-e2e",
            &[],
            &["roadstead-api", "roadstead-bgp", "roadstead-cni", "roadstead-controller", "roadstead-speaker"],
        ),
    ];
    for (package, flags, forbidden) in rules {
        let reached = dependencies(package, flags)?;
        broken.extend(
            forbidden
                .iter()
                .filter(|name| reached.iter().any(|reached| reached == *name))
                .map(|name| format!("{package} {} reaches the crate {name}", flags.join(" "))),
        );
    }
    Ok(broken)
}

fn dependencies(package: &str, flags: &[&str]) -> Result<Vec<String>> {
    let output = cargo(&["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{lib}"])
        .args(flags)
        .current_dir(crate::workspace())
        .output()
        .context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree --package {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // {lib} is the crate as code names it, with underscores.
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().replace('_', "-")).collect())
}

fn purity(files: &[(PathBuf, String)], exception: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !path.starts_with(exception)) {
        // The driver may be a file beside its directory.
        if path.with_extension("") == exception {
            continue;
        }
        let tests_begin = if is_test_file(path) { 0 } else { text.find(INLINE_TESTS).unwrap_or(text.len()) };
        let test_line = text[..tests_begin].lines().count();
        for (number, line) in code_lines(text) {
            let allowed = |word: &str| number > test_line && word == ORIGIN_OF_TIME;
            let found = IMPURE_WORDS.iter().filter(|word| contains_word(&line, word) && !allowed(word));
            broken.extend(found.map(|word| format!("{}:{number}: {word} in a pure module", path.display())));
        }
    }
    Ok(broken)
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|component| component.as_os_str() == "tests")
}

/// `unsafe` lives in one file at most, so that one review covers it.
fn unsafe_rule() -> Result<Vec<String>> {
    let mut places = Vec::new();
    for directory in
        ["api/src", "bgp/src", "cli/src", "cni/src", "controller/src", "e2e/src", "speaker/src", "xtask/src"]
    {
        for (path, text) in rust_files(directory)? {
            if code_lines(&text).any(|(_, line)| is_unsafe(&line)) {
                places.push(path.display().to_string());
            }
        }
    }
    Ok(if places.len() > 1 {
        vec![format!("unsafe is in more than one file: {}", places.join(", "))]
    } else {
        Vec::new()
    })
}

fn is_unsafe(line: &str) -> bool {
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| contains_word(line, form))
}

/// The code of each line, with its number: without comments, and without what stands in string literals.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, code(line)))
}

/// Good enough for rules about words: literals over several lines are taken for code.
fn code(line: &str) -> String {
    // A raw literal may hold quotes, so it goes first.
    if let Some((before, rest)) = line.split_once("r#\"")
        && let Some((_, after)) = rest.split_once("\"#")
    {
        return code(&format!("{before}{after}"));
    }
    let mut code = String::new();
    let (mut in_literal, mut escaped) = (false, false);
    for character in line.chars() {
        match character {
            '"' if !escaped => in_literal = !in_literal,
            character if !in_literal => code.push(character),
            _ => {}
        }
        escaped = in_literal && character == '\\' && !escaped;
    }
    let end = code.find("//").unwrap_or(code.len());
    code.truncate(end);
    code
}

/// `word` in `line` where no identifier continues to its left: `operand::` is not `rand::`.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_'))
}

/// The Rust files below a directory of the workspace, by path relative to it. A directory that is not there has none.
fn rust_files(directory: &str) -> Result<Vec<(PathBuf, String)>> {
    let root = crate::workspace();
    let mut files = Vec::new();
    let mut directories = vec![root.join(directory)];
    while let Some(directory) = directories.pop() {
        if !directory.exists() {
            continue;
        }
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
            let path = entry.with_context(|| format!("cannot list {}", directory.display()))?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                files.push((path.strip_prefix(&root).unwrap_or(&path).to_path_buf(), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_purity(path: &str, text: &str, expected: &[&str]) {
        let files = [(PathBuf::from(path), text.to_owned())];
        assert_eq!(purity(&files, Path::new("bgp/src/driver")).unwrap(), expected, "{text}");
    }

    #[test]
    fn pure_sources() {
        check_purity("bgp/src/peer.rs", "fn f(now: Instant) {}\n", &[]);
        check_purity(
            "bgp/src/peer.rs",
            "\nlet now = std::time::Instant::now();\n",
            &["bgp/src/peer.rs:2: Instant::now in a pure module"],
        );
        check_purity(
            "bgp/src/peer.rs",
            "use tokio::net::TcpStream;\n",
            &["bgp/src/peer.rs:1: tokio:: in a pure module", "bgp/src/peer.rs:1: TcpStream in a pure module"],
        );
        check_purity("bgp/src/peer.rs", "// unlike tokio::time, this is an argument\n", &[]);
        check_purity("bgp/src/peer.rs", "let x = operand::new();\n", &[]);
        check_purity("bgp/src/peer/tests/story.rs", "let origin = Instant::now();\n", &[]);
        check_purity("bgp/src/peer.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\nInstant::now();\n}\n", &[]);
        check_purity(
            "bgp/src/peer/tests.rs",
            "use tokio::time;\n",
            &["bgp/src/peer/tests.rs:1: tokio:: in a pure module"],
        );
        check_purity("bgp/src/driver/socket.rs", "use tokio::net::TcpStream;\n", &[]);
        check_purity("bgp/src/driver.rs", "use tokio::net::TcpStream;\n", &[]);
    }

    #[test]
    fn unsafe_code_and_what_only_looks_like_it() {
        for (line, expected) in [
            ("    unsafe { libc::setsockopt() }", true),
            ("pub unsafe fn f() {}", true),
            ("#![deny(unsafe_code)]", false),
            ("let not_unsafe = 1;", false),
        ] {
            assert_eq!(is_unsafe(line), expected, "{line}");
        }
    }

    #[test]
    fn code_without_comments_and_literals() {
        for (line, expected) in [
            ("// unsafe {", ""),
            ("let a = 1; // unsafe {", "let a = 1; "),
            (r#"say("unsafe {"); f()"#, "say(); f()"),
            (r#"say("a \" unsafe {"); f()"#, "say(); f()"),
            (r#"say("http://x"); unsafe {"#, "say(); unsafe {"),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
    }
}
