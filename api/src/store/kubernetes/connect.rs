//! How the API server is found: a kubeconfig, or the account of the pod that we run in.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// An API server on the same network answers a SYN in milliseconds; kube's own 30 s would hide a dead one for that long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection to an API server. None of these goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file cannot be read.
    #[error("kubeconfig {}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is there, but names no API server that can be reached.
    #[error("kubeconfig {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A context was named that cannot be used.
    #[error("context {context:?} of the kubeconfig: {reason}")]
    Context {
        /// The context's name.
        context: String,
        /// What is wrong.
        reason: String,
    },
    /// No file was named, and none was found.
    #[error(
        "no API server to talk to: no kubeconfig was given, neither KUBECONFIG nor ~/.kube/config can be used, and this is not \
         a pod with a service account ({reason})"
    )]
    NotFound {
        /// What was tried.
        reason: String,
    },
    /// The file is fine, but a client cannot be made from it.
    #[error("API server {server}: {reason}")]
    Client {
        /// The API server's URL.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

/// A client for the API server of this kubeconfig; `None`: of `KUBECONFIG`, of `~/.kube/config`, or of the pod's own account.
pub(super) async fn client(kubeconfig: Option<PathBuf>) -> Result<Client, ConnectError> {
    with_config(match kubeconfig {
        Some(path) => from_file(&path).await?,
        None => infer().await?,
    })
}

/// A client for the API server of this context of `KUBECONFIG` or `~/.kube/config`.
pub(super) async fn client_of_context(context: &str) -> Result<Client, ConnectError> {
    let unusable = |error: &KubeconfigError| ConnectError::Context {
        context: context.to_owned(),
        reason: match error {
            KubeconfigError::LoadContext(_) => "there is none of that name".to_owned(),
            other => reason(other),
        },
    };
    let kubeconfig = Kubeconfig::read().map_err(|error| unusable(&error))?;
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    with_config(Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))?)
}

fn with_config(mut config: Config) -> Result<Client, ConnectError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // kube would repeat requests that were answered with 429, 503 or 504 by itself. A create that timed out behind a 504 may have
    // been done, and its repetition would say `AlreadyExists` of our own object; nor could a caller bound the time. Watches begin
    // again by themselves, and whoever writes decides about trying again with `WriteError::Unavailable` in hand.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|error| ConnectError::Client { server, reason: one_line(&error) })
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let unusable = |error: KubeconfigError| match error {
        KubeconfigError::ReadConfig(source, path) => ConnectError::Unreadable { path, source },
        other => ConnectError::Unusable { path: path.to_owned(), reason: reason(&other) },
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(unusable)
}

async fn infer() -> Result<Config, ConnectError> {
    // A KUBECONFIG that is set and wrong is a mistake to report, not a reason to look elsewhere.
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    let named: Vec<PathBuf> = named.iter().flat_map(std::env::split_paths).collect();
    // Several files are merged, by kube.
    if let [path] = named.as_slice() {
        return from_file(path).await;
    }
    Config::infer().await.map_err(|error| ConnectError::NotFound { reason: one_line(&error) })
}

/// What is wrong with a kubeconfig, in words for the person who wrote it.
fn reason(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            format!("not a kubeconfig in YAML: {}", flat(&error.without_snippet().to_string()))
        }
        KubeconfigError::CurrentContextNotSet => "no current-context is set".to_owned(),
        KubeconfigError::LoadContext(name) if name.is_empty() => "no current-context is set".to_owned(),
        KubeconfigError::LoadContext(name) => {
            format!("current-context is {name:?}, and there is no context of that name")
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the context's cluster is {name:?}, and there is none of that name")
        }
        KubeconfigError::FindPath => "names no file".to_owned(),
        other => one_line(other),
    }
}

/// An error with its causes, on one line.
pub(super) fn one_line(error: &dyn Error) -> String {
    let mut line = flat(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = flat(&error.to_string());
        // Many errors print their cause themselves.
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connects with a kubeconfig of this text, and says what is wrong with it.
    #[track_caller]
    fn check(name: &str, text: Option<&str>, expected: &str) {
        let path = std::env::temp_dir().join(format!("roadstead-kubeconfig-{}-{name}", std::process::id()));
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(client(Some(path.clone()))).map(drop);
        let _ = std::fs::remove_file(&path);
        let told = outcome.map_or_else(|error| error.to_string(), |()| "connected".to_owned());
        assert_eq!(told.replace(&path.display().to_string(), "FILE"), expected, "{name}");
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_used_is_refused_in_words() {
        let good = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n\
                    clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n";
        let with = |from: &str, to: &str| good.replace(from, to);
        check("good", Some(good), "connected");
        check("missing", None, "kubeconfig FILE: cannot be read: No such file or directory (os error 2)");
        check("empty", Some(""), "kubeconfig FILE: no current-context is set");
        check(
            "yaml",
            Some("a: [1\n"),
            "kubeconfig FILE: not a kubeconfig in YAML: unclosed bracket '[' at line 1, column 4",
        );
        check("context", Some(&with("current-context: c\n", "")), "kubeconfig FILE: no current-context is set");
        check(
            "other-context",
            Some(&with("current-context: c", "current-context: x")),
            "kubeconfig FILE: current-context is \"x\", and there is no context of that name",
        );
        check(
            "cluster",
            Some(&with("cluster: k,", "cluster: x,")),
            "kubeconfig FILE: the context's cluster is \"x\", and there is none of that name",
        );
        check(
            "certificate",
            Some(&with("server:", "certificate-authority: /nonexistent/ca.crt, server:")),
            "kubeconfig FILE: failed to load certificate authority: failed to read file '\"/nonexistent/ca.crt\"': No such file or \
             directory (os error 2)",
        );
    }
}
