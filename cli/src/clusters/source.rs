//! Where it is told which addresses a cluster uses.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use roadstead_api::checked::Network;
use roadstead_api::kubernetes::Secret;
use roadstead_api::overlap::{Territory, used_by};
use roadstead_api::store::{DirectoryStore, Kind, KubernetesStore, Object};

/// What tells which addresses a cluster uses. Nothing else is asked for, so nobody needs a right to read Secrets.
const ASKED_FOR: [Kind; 9] = [
    Kind::ClusterNetwork,
    Kind::AddressPool,
    Kind::PodPool,
    Kind::AddressClaim,
    Kind::ServiceCidr,
    Kind::Node,
    Kind::Service,
    Kind::NodeReport,
    Kind::EdgeHost,
];

/// The most problems of manifests that are listed.
const LISTED: usize = 20;
/// Enough of a file to tell a kubeconfig from manifests.
const HEAD: u64 = 64 << 10;

/// A place at which a cluster's objects can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file of manifests, or a directory of such.
    Manifests(PathBuf),
    /// The current context of a kubeconfig; `None`: of `KUBECONFIG` or `~/.kube/config`.
    Kubeconfig(Option<PathBuf>),
    /// A context of `KUBECONFIG` or `~/.kube/config`.
    Context(String),
}

/// Where one cluster is read from.
#[derive(clap::Args)]
pub(super) struct Place {
    /// A directory of manifests, or a file, instead of an API server
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    manifests: Option<PathBuf>,

    /// The kubeconfig [default: KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    kubeconfig: Option<PathBuf>,

    /// A context of KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl From<Place> for Source {
    fn from(Place { manifests, kubeconfig, context }: Place) -> Self {
        match (manifests, context) {
            (Some(path), _) => Self::Manifests(path),
            (None, Some(context)) => Self::Context(context),
            (None, None) => Self::Kubeconfig(kubeconfig),
        }
    }
}

impl Source {
    /// A file, a directory or a kubeconfig where there is one of that name, else a context.
    pub(super) fn new(argument: &str) -> anyhow::Result<Self> {
        let path = PathBuf::from(argument);
        if path.is_file() {
            return Ok(if is_kubeconfig(&path)? { Self::Kubeconfig(Some(path)) } else { Self::Manifests(path) });
        }
        if path.is_dir() {
            return Ok(Self::Manifests(path));
        }
        ensure!(!argument.contains('/') || path.exists(), "{argument}: there is no such file or directory");
        Ok(Self::Context(argument.to_owned()))
    }

    /// What tells two sources apart, however they are written.
    pub(super) fn identity(&self) -> String {
        let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
        match self {
            Self::Manifests(path) | Self::Kubeconfig(Some(path)) => canonical(path),
            Self::Kubeconfig(None) => "the kubeconfig's current context".to_owned(),
            Self::Context(name) => format!("context {name}"),
        }
    }

    /// What tells addresses, after everything that is wrong with it was said.
    pub(super) async fn objects(&self) -> anyhow::Result<Vec<Object>> {
        self.list(&ASKED_FOR).await
    }

    /// The objects of these kinds, or of all kinds where they are read at once.
    pub(super) async fn list(&self, kinds: &[Kind]) -> anyhow::Result<Vec<Object>> {
        if let Self::Manifests(path) = self {
            return survey(path);
        }
        let store = self.connect().await?;
        let mut objects = Vec::new();
        for kind in kinds {
            objects.extend(store.list(*kind).await.with_context(|| self.to_string())?);
        }
        Ok(objects)
    }

    /// One Secret.
    pub(super) async fn secret(&self, namespace: &str, name: &str) -> anyhow::Result<Option<Arc<Secret>>> {
        let Self::Manifests(path) = self else {
            let secret = self.connect().await?.secret(namespace, name).await;
            return Ok(secret.with_context(|| self.to_string())?.map(Arc::new));
        };
        let is_it = |secret: &Arc<Secret>| {
            let metadata = &secret.metadata;
            metadata.name.as_deref() == Some(name) && metadata.namespace.as_deref().unwrap_or("default") == namespace
        };
        let secrets = survey(path)?.into_iter().filter_map(|object| match object {
            Object::Secret(secret) => Some(secret),
            _ => None,
        });
        Ok(secrets.into_iter().find(is_it))
    }

    async fn connect(&self) -> anyhow::Result<KubernetesStore> {
        let store = match self {
            Self::Manifests(path) => bail!("{}: no API server", path.display()),
            Self::Kubeconfig(path) => KubernetesStore::connect(path.clone(), "roadstead").await,
            Self::Context(name) => KubernetesStore::connect_context(name, "roadstead").await,
        };
        store.with_context(|| match self {
            Self::Context(name) => format!("{name}: neither a file nor a directory, so taken for a context"),
            _ => self.to_string(),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(path) | Self::Kubeconfig(Some(path)) => path.display().fmt(f),
            Self::Kubeconfig(None) => f.write_str("the kubeconfig's current context"),
            Self::Context(name) => f.write_str(name),
        }
    }
}

fn survey(path: &Path) -> anyhow::Result<Vec<Object>> {
    let (objects, problems) = DirectoryStore::survey(path)?;
    if problems.is_empty() {
        return Ok(objects);
    }
    let mut lines: Vec<String> = problems.iter().take(LISTED).map(ToString::to_string).collect();
    if problems.len() > LISTED {
        lines.push(format!("and {} more problems", problems.len() - LISTED));
    }
    bail!("{}", lines.join("\n"));
}

/// A kubeconfig says `kind: Config` and lists clusters.
fn is_kubeconfig(path: &Path) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(HEAD).read_to_end(&mut head).with_context(|| path.display().to_string())?;
    let text = String::from_utf8_lossy(&head);
    let has = |wanted: &str| text.lines().any(|line| line.trim_end().replace('"', "") == wanted);
    Ok(has("kind: Config") && text.lines().any(|line| line.starts_with("clusters:")))
}

/// A cluster as its objects tell it.
pub(super) struct Cluster {
    /// Its name among those that are compared: what it calls itself, or else where its objects are from.
    pub(super) name: Arc<str>,
    /// Whether it has a name of its own.
    pub(super) is_named: bool,
    /// Its ASN, where it says one.
    pub(super) asn: Option<u32>,
    /// What it uses.
    pub(super) territory: Territory,
}

impl Cluster {
    /// Reads a source.
    pub(super) async fn read(source: &Source) -> anyhow::Result<Self> {
        let objects = source.objects().await?;
        let network = objects.iter().find_map(|object| match object {
            Object::ClusterNetwork(raw) => Network::check(raw).ok(),
            _ => None,
        });
        let own_name = network.as_ref().and_then(|network| network.cluster_name.clone());
        let is_named = own_name.is_some();
        let name: Arc<str> = own_name.unwrap_or_else(|| source.to_string()).into();
        let mut territory = Territory::default();
        for (range, holding) in objects.iter().flat_map(used_by) {
            territory.insert_range(range, &holding.of(&name));
        }
        ensure!(
            !territory.is_empty(),
            "{source}: nothing in it tells which addresses the cluster uses; wanted are {}",
            ASKED_FOR
                .iter()
                .map(|kind| kind.as_str())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(", ")
        );
        // Where none is declared, the controller has derived one.
        let in_force = objects.iter().find_map(|object| match object {
            Object::ClusterNetwork(raw) => u32::try_from(raw.status.as_ref()?.asn?.0).ok(),
            _ => None,
        });
        Ok(Self { name, is_named, asn: network.and_then(|network| network.asn).or(in_force), territory })
    }
}
