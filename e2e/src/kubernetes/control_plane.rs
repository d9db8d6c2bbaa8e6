//! etcd and kube-apiserver, with RBAC on and users of our choice.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{tool, workspace};
use crate::network::Namespace;
use crate::process::Process;
use crate::product;
use crate::run::{output_of, run};
use crate::scene::Scene;
use crate::wait::wait_until;

/// From the start of the API server to its first answer; four seconds where this was written.
const START: Duration = Duration::from_secs(90);

/// Somebody whom the API server knows by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub name: &'static str,
    pub groups: &'static str,
    /// Also the name of the kubeconfig.
    pub token: &'static str,
}

impl User {
    /// May do everything.
    pub const ADMIN: Self = Self { name: "admin", groups: "system:masters", token: "admin" };
    /// The ServiceAccount under which the chart runs the controller.
    pub const CONTROLLER: Self = Self {
        name: "system:serviceaccount:roadstead-system:roadstead-controller",
        groups: "system:serviceaccounts,system:serviceaccounts:roadstead-system,system:authenticated",
        token: "controller",
    };
    /// The ServiceAccount under which the chart runs the speakers.
    pub const SPEAKER: Self = Self {
        name: "system:serviceaccount:roadstead-system:roadstead-speaker",
        groups: "system:serviceaccounts,system:serviceaccounts:roadstead-system,system:authenticated",
        token: "speaker",
    };

    const ALL: [Self; 3] = [Self::ADMIN, Self::CONTROLLER, Self::SPEAKER];
}

/// A running API server and its etcd.
pub struct ControlPlane {
    directory: PathBuf,
    machine: Option<Namespace>,
    kubectl: PathBuf,
    // Dropped in this order: the API server before its storage.
    _controllers: Vec<Process>,
    api_server: Process,
    _etcd: Process,
}

impl ControlPlane {
    /// Starts both on `machine`, which has `address`; without a machine on this one's loopback.
    pub fn start(scene: &Scene, machine: Option<&Namespace>, address: &str, extra_flags: &[&str]) -> Result<Self> {
        let directory = scene.subdirectory(&format!("control-plane-{address}"))?;
        let on_machine =
            |program: PathBuf| machine.map_or_else(|| Command::new(&program), |machine| machine.command(&program));
        // A namespace has all ports to itself; loopback is shared, so ask for free ones there.
        let (client_port, peer_port, api_port) =
            if machine.is_some() { (2379, 2380, 6443) } else { (free_port()?, free_port()?, free_port()?) };

        let mut etcd = on_machine(PathBuf::from("etcd"));
        // An fsync for each write costs most of a test's time, and nobody needs the data after a power cut.
        etcd.arg("--unsafe-no-fsync").arg("--data-dir").arg(directory.join("etcd"));
        etcd.args([
            format!("--listen-client-urls=http://127.0.0.1:{client_port}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client_port}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}"),
            format!("--initial-cluster=default=http://127.0.0.1:{peer_port}"),
        ]);
        let etcd = Process::start(scene, "etcd", &etcd)?;

        let (key, public) = (directory.join("sa.key"), directory.join("sa.pub"));
        run("openssl", &format!("genrsa -out {} 2048", key.display()))?;
        run("openssl", &format!("rsa -in {} -pubout -out {}", key.display(), public.display()))?;
        let tokens = directory.join("tokens.csv");
        let lines: String = User::ALL
            .iter()
            .map(|user| format!("{},{},{},\"{}\"\n", user.token, user.name, user.token, user.groups))
            .collect();
        fs::write(&tokens, lines).with_context(|| format!("cannot write {}", tokens.display()))?;

        let mut api_server = on_machine(tool("kube-apiserver")?);
        api_server.args([
            format!("--etcd-servers=http://127.0.0.1:{client_port}"),
            format!("--secure-port={api_port}"),
            format!("--bind-address={address}"),
            format!("--cert-dir={}", directory.display()),
            format!("--token-auth-file={}", tokens.display()),
            format!("--service-account-key-file={}", public.display()),
            format!("--service-account-signing-key-file={}", key.display()),
        ]);
        api_server.args([
            // Apart from every address of a scene: kube-proxy drops what goes to a ClusterIP that nobody has.
            "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108",
            "--service-account-issuer=https://kubernetes.default",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
        ]);
        if machine.is_some() {
            api_server.arg(format!("--advertise-address={address}"));
        }
        api_server.args(extra_flags);
        let api_server = Process::start(scene, "kube-apiserver", &api_server)?;

        for user in User::ALL {
            let text = kubeconfig(&format!("https://{address}:{api_port}"), &directory.join("apiserver.crt"), user);
            let path = directory.join(format!("{}.kubeconfig", user.token));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut plane = Self {
            directory,
            machine: machine.cloned(),
            kubectl: tool("kubectl")?,
            _controllers: Vec::new(),
            api_server,
            _etcd: etcd,
        };
        wait_until("kube-apiserver to be ready", START, || {
            plane.api_server.ensure_running()?;
            plane.kubectl("get --raw /readyz").map(drop)
        })?;
        // Made by the API server itself a moment after it is ready.
        wait_until("the default namespace", START, || plane.kubectl("get namespace default").map(drop))?;
        Ok(plane)
    }

    /// Adds kube-controller-manager and kube-scheduler: now Deployments become Pods on Nodes.
    pub fn start_controllers(&mut self, scene: &Scene) -> Result<()> {
        let kubeconfig = self.kubeconfig(User::ADMIN);
        let machine = self.machine.as_ref().context("controllers run beside an API server on a machine of its own")?;
        let mut manager = machine.command(tool("kube-controller-manager")?);
        manager.arg("--kubeconfig").arg(&kubeconfig).arg("--service-account-private-key-file");
        manager.arg(self.directory.join("sa.key")).args(["--leader-elect=false", "--cert-dir"]).arg(&self.directory);
        // Pods that talk to the API server find its authority beside their token.
        manager.arg("--root-ca-file").arg(self.directory.join("apiserver.crt"));
        let mut scheduler = machine.command(tool("kube-scheduler")?);
        scheduler
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--leader-elect=false", "--cert-dir"])
            .arg(&self.directory);
        self._controllers.push(Process::start(scene, "kube-controller-manager", &manager)?);
        self._controllers.push(Process::start(scene, "kube-scheduler", &scheduler)?);
        Ok(())
    }

    /// Installs our kinds, as `roadstead crds` prints them, and waits until each is served.
    pub fn serve_our_kinds(&self) -> Result<()> {
        let crds = output_of(product::command("roadstead", None)?.arg("crds"))?;
        let applied = self.apply(&crds)?;
        // Each line reads `customresourcedefinition.apiextensions.k8s.io/addresspools.roadstead.dev created`.
        for name in applied.lines().filter_map(|line| line.split_whitespace().next()) {
            self.kubectl(&format!("wait --for=condition=Established --timeout=30s {name}"))?;
        }
        Ok(())
    }

    /// The kubeconfig of a user.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.directory.join(format!("{}.kubeconfig", user.token))
    }

    /// The kubeconfig of the speaker on a node: its token is for that node, as a Pod's is that runs there. The Node and the
    /// chart's accounts have to be there.
    pub fn speaker_kubeconfig(&self, node: &str) -> Result<PathBuf> {
        let token = self.kubectl(&format!(
            "create token roadstead-speaker --namespace roadstead-system --bound-object-kind Node --bound-object-name {node}"
        ))?;
        let text = fs::read_to_string(self.kubeconfig(User::ADMIN)).context("the admin has no kubeconfig")?;
        let text = text
            .replace(&format!("user: {{token: {}}}", User::ADMIN.token), &format!("user: {{token: {}}}", token.trim()));
        let path = self.directory.join(format!("speaker-{node}.kubeconfig"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Runs kubectl as admin, arguments separated by blanks.
    pub fn kubectl(&self, arguments: &str) -> Result<String> {
        self.kubectl_as(User::ADMIN, &arguments.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs kubectl as `user`.
    pub fn kubectl_as(&self, user: User, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(&self.kubeconfig(user), arguments)
    }

    /// Runs kubectl with a kubeconfig.
    pub fn kubectl_with(&self, kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(&self.kubectl);
        command.arg("--kubeconfig").arg(kubeconfig).arg("--request-timeout=20s").args(arguments);
        // Its discovery cache would go to the home directory of whoever runs the tests.
        command.arg("--cache-dir").arg(self.directory.join("kubectl-cache"));
        output_of(&mut command)
    }

    /// `helm install` of our chart into roadstead-system as admin, waiting until it runs; values as a file has them.
    pub fn install_chart(&self, values: &str) -> Result<()> {
        let path = self.directory.join("values.yaml");
        fs::write(&path, values).with_context(|| format!("cannot write {}", path.display()))?;
        let (chart, path) = (workspace().join("charts/roadstead").display().to_string(), path.display().to_string());
        let flags = ["--create-namespace", "--wait", "--timeout", "180s", "--values", &path];
        self.helm(&[&["install", "roadstead", &chart], &flags[..]].concat()).map(drop).with_context(|| {
            let pods = self.kubectl("describe pods --namespace roadstead-system").unwrap_or_default();
            format!("the chart does not come up; its Pods: {pods}")
        })
    }

    /// `helm uninstall` of it.
    pub fn uninstall_chart(&self) -> Result<()> {
        self.helm(&["uninstall", "roadstead", "--wait", "--timeout", "120s"]).map(drop)
    }

    fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(&tool("helm")?);
        command.args(arguments).args(["--namespace", "roadstead-system"]);
        output_of(command.arg("--kubeconfig").arg(self.kubeconfig(User::ADMIN)))
    }

    fn command(&self, program: &Path) -> Command {
        self.machine.as_ref().map_or_else(|| Command::new(program), |machine| machine.command(program))
    }

    /// `kubectl apply` of manifests given as text.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.apply_with(manifests, &[])
    }

    /// `kubectl apply` with more flags.
    pub fn apply_with(&self, manifests: &str, flags: &[&str]) -> Result<String> {
        let path = self.directory.join("apply.yaml");
        fs::write(&path, manifests).with_context(|| format!("cannot write {}", path.display()))?;
        let path = path.to_string_lossy().into_owned();
        let mut arguments = vec!["apply", "-f", &path];
        arguments.extend(flags);
        self.kubectl_as(User::ADMIN, &arguments)
    }

    /// An object, or a list, as JSON.
    pub fn get(&self, what: &str) -> Result<Value> {
        let answer = self.kubectl(&format!("get {what} -o json"))?;
        serde_json::from_str(&answer).with_context(|| format!("kubectl get {what} printed {answer}"))
    }

    /// A Node without a kubelet, for tests in which nobody runs Pods.
    pub fn make_node(&self, name: &str, addresses: &[&str]) -> Result<()> {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{kubernetes.io/hostname: {name}}}}}}}"
        ))?;
        let addresses: Vec<Value> =
            addresses.iter().map(|address| serde_json::json!({"type": "InternalIP", "address": address})).collect();
        let status = serde_json::json!({"status": {
            "addresses": addresses,
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let patch = ["patch", "node", name, "--subresource=status", "--type=merge", "--patch", &status.to_string()];
        self.kubectl_as(User::ADMIN, &patch).map(drop)
    }
}

/// The server makes a certificate and its authority at the start, and writes both into one file.
fn kubeconfig(server: &str, authority: &Path, user: User) -> String {
    let (token, authority) = (user.token, authority.display());
    format!(
        "apiVersion: v1
kind: Config
clusters: [{{name: cluster, cluster: {{server: \"{server}\", certificate-authority: \"{authority}\"}}}}]
users: [{{name: {token}, user: {{token: {token}}}}}]
contexts: [{{name: context, context: {{cluster: cluster, user: {token}}}}}]
current-context: context
"
    )
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("cannot ask for a free port")?;
    Ok(listener.local_addr().context("cannot tell the port")?.port())
}
