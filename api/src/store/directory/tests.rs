//! Stories of a whole store, told by looks instead of time: only the last two run the thread that looks.

use std::fs;

use super::scratch::Scratch;
use super::*;
use crate::kinds::{AddressClaimSpec, NodeReportSpec, NodeReportStatus};
use crate::store::{Kind, ObjectKey, Store};

const POOL: &str = "apiVersion: roadstead.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: public}\nspec: {addresses: [203.0.113.0/24]}\n";

fn service(name: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{type: LoadBalancer, ports: [{{port: {port}}}]}}\n"
    )
}

fn key(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

fn open(scratch: &Scratch) -> Shared {
    Shared::open(scratch.manifests(), scratch.state()).unwrap()
}

/// More looks than anything takes to be believed.
fn settle(store: &Shared) {
    for _ in 0..10 {
        store.look();
    }
}

impl Shared {
    fn problem_lines(&self, scratch: &Scratch) -> Vec<String> {
        self.writer().problems().iter().map(|problem| scratch.relative(&problem.to_string())).collect()
    }

    /// The port of a Service of namespace `shop`, which tells its versions apart.
    fn port(&self, name: &str) -> Option<i32> {
        match self.view.get(&key(Kind::Service, "shop", name))? {
            Object::Service(service) => service.spec.ports.first().map(|port| port.port),
            other => panic!("{other:?}"),
        }
    }

    fn uid(&self, name: &str) -> Option<String> {
        self.view.get(&key(Kind::Service, "shop", name))?.metadata().uid.clone()
    }
}

#[test]
fn a_service_follows_its_manifest() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &service("front", "80"));
    let store = open(&scratch);
    let uid = store.uid("front");
    assert_eq!(store.port("front"), Some(80));
    let before = scratch.kept("services/shop/front.yaml").unwrap();
    assert!(before.contains("resourceVersion: \"1\"") && before.contains(uid.as_deref().unwrap()), "{before}");

    scratch.put("a.yaml", &service("front", "443"));
    settle(&store);
    assert_eq!((store.port("front"), store.uid("front")), (Some(443), uid.clone()));

    scratch.remove("a.yaml");
    settle(&store);
    assert_eq!((store.port("front"), scratch.kept("services/shop/front.yaml")), (None, None));

    scratch.put("sub/again.yml", &service("front", "80"));
    settle(&store);
    assert!(store.uid("front").is_some_and(|now| Some(now) != uid), "made again, it is another Service");
}

#[test]
fn an_object_that_moves_to_another_file_stays_the_same() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &service("front", "80"));
    let store = open(&scratch);
    let before = store.view.get(&key(Kind::Service, "shop", "front"));
    scratch.remove("a.yaml");
    scratch.put("b.json", r#"{"apiVersion": "v1", "kind": "ServiceList", "items": [{"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "front", "namespace": "shop"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}]}"#);
    settle(&store);
    assert_eq!(store.view.get(&key(Kind::Service, "shop", "front")), before);
}

#[test]
fn a_broken_document_costs_nothing_but_its_own_changes() {
    let scratch = Scratch::new();
    let file = |front: &str, back: &str| format!("{}---\n{}", service("front", front), service("back", back));
    scratch.put("a.yaml", &file("80", "80"));
    let store = open(&scratch);

    scratch.put("a.yaml", &file("http", "443"));
    settle(&store);
    assert_eq!((store.port("front"), store.port("back")), (Some(80), Some(443)), "a wrong value");
    let expected =
        r#"manifests/a.yaml:1: document 1: Service shop/front: spec.ports[0].port: "http": must be a whole number"#;
    assert_eq!(store.problem_lines(&scratch), [expected]);

    scratch.put("a.yaml", &file("[", "8443"));
    settle(&store);
    assert_eq!((store.port("front"), store.port("back")), (Some(80), Some(8443)), "not YAML");
    assert!(
        store.problem_lines(&scratch)[0].starts_with("manifests/a.yaml:4: document 1: not YAML: "),
        "{:?}",
        store.problem_lines(&scratch)
    );

    scratch.put("a.yaml", &file("81", "8443"));
    settle(&store);
    assert_eq!((store.port("front"), store.problem_lines(&scratch)), (Some(81), vec![]), "mended");

    fs::write(scratch.manifests().join("a.yaml"), b"\xff\xfe").unwrap();
    settle(&store);
    assert_eq!((store.port("front"), store.port("back")), (Some(81), Some(8443)), "no text at all");
    assert_eq!(store.problem_lines(&scratch), ["manifests/a.yaml: cannot be read: not UTF-8 text at byte 0"]);
}

#[test]
fn what_an_api_server_does_not_let_change_stays() {
    let scratch = Scratch::new();
    let pool = |spec: &str| {
        format!("apiVersion: roadstead.dev/v1alpha1\nkind: PodPool\nmetadata: {{name: pods}}\nspec: {{{spec}}}\n")
    };
    scratch.put("pool.yaml", &pool("subnet: 10.1.0.0/24, blockPrefixLength: 26"));
    let store = open(&scratch);
    scratch.put("pool.yaml", &pool("subnet: 10.2.0.0/24, default: true"));
    settle(&store);
    let lines = store.problem_lines(&scratch);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("a pool stays in its subnet, 10.1.0.0/24")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("stays as it is, 26: make another pool")), "{lines:?}");
    scratch.put("pool.yaml", &pool("subnet: 10.1.0.0/24, blockPrefixLength: 26, default: true"));
    settle(&store);
    assert_eq!(store.problem_lines(&scratch), [""; 0]);
}

#[test]
fn the_last_good_version_outlives_a_restart() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &service("front", "80"));
    scratch.put("b.yaml", &service("back", "80"));
    let uid = open(&scratch).uid("front");
    scratch.put("a.yaml", "{");
    scratch.remove("b.yaml");
    let store = open(&scratch);
    assert_eq!((store.port("front"), store.uid("front")), (Some(80), uid));
    assert_eq!(
        (store.port("back"), scratch.kept("services/shop/back.yaml")),
        (None, None),
        "deleted while nobody looked"
    );
}

#[test]
fn a_restart_changes_nothing() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &format!("{POOL}---\n{}", service("front", "80")));
    let look = |store: &Shared| {
        [key(Kind::AddressPool, "", "public"), key(Kind::Service, "shop", "front")].map(|key| store.view.get(&key))
    };
    let store = open(&scratch);
    let service = look(&store)[1].clone().unwrap();
    let (uid, version) =
        (service.metadata().uid.clone().unwrap(), service.metadata().resource_version.clone().unwrap());
    let shop_front = ServiceKey { namespace: "shop".into(), name: "front".into() };
    let addresses = ["203.0.113.7".parse().unwrap()];
    store.writer().write_service_status(&shop_front, &uid, &version, &addresses, &store.view).unwrap();
    let before = look(&store);
    drop(store);
    assert_eq!(look(&open(&scratch)), before);
}

#[test]
fn the_same_object_twice_counts_once() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &format!("{}---\n{}", service("front", "80"), service("front", "81")));
    scratch.put("b.yaml", &service("front", "82"));
    let store = open(&scratch);
    assert_eq!(store.port("front"), Some(80));
    let first = "is also in manifests/a.yaml (line 1, document 1), which is the one that counts";
    assert_eq!(
        store.problem_lines(&scratch),
        [
            format!("manifests/a.yaml:6: document 2: Service shop/front: {first}"),
            format!("manifests/b.yaml:1: document 1: Service shop/front: {first}"),
        ]
    );
    let uid = store.uid("front");
    scratch.remove("a.yaml");
    settle(&store);
    assert_eq!((store.port("front"), store.uid("front")), (Some(82), uid), "the next one counts, as the same object");
    assert_eq!(store.problem_lines(&scratch), [""; 0]);
}

#[test]
fn the_state_directory_has_one_user_at_a_time() {
    let scratch = Scratch::new();
    let first = open(&scratch);
    let second = Shared::open(scratch.manifests(), scratch.state()).map(drop).unwrap_err().to_string();
    let expected = format!(
        "state directory state: in use by another Roadstead (process {}); give each its own",
        std::process::id()
    );
    assert_eq!(scratch.relative(&second), expected);
    drop(first);
    drop(open(&scratch));
}

#[test]
fn directories_that_cannot_be_used_are_refused_in_words() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", POOL);
    let refusal = |manifests: PathBuf, state: PathBuf| {
        scratch.relative(&Shared::open(manifests, state).map(drop).unwrap_err().to_string())
    };
    let (manifests, state) = (scratch.manifests(), scratch.state());
    assert_eq!(
        refusal(manifests.join("none"), state),
        "manifests manifests/none: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal(manifests.clone(), manifests.join("a.yaml")),
        "state directory manifests/a.yaml: File exists (os error 17)"
    );
    let twice = refusal(manifests.clone(), manifests);
    assert_eq!(twice, "state directory manifests: is the directory of manifests too; give it a directory of its own");
}

#[test]
fn a_corrupt_state_file_is_set_aside_and_told() {
    let scratch = Scratch::new();
    drop(open(&scratch));
    for (name, text) in
        [("addressclaims/203.0.113.7.yaml", "{"), ("services/shop/front.yaml", "apiVersion: v1\nkind: Secret\n")]
    {
        let path = scratch.state().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    scratch.put("a.yaml", &service("front", "80"));
    let store = open(&scratch);
    let problems = store.problem_lines(&scratch);
    assert!(problems[0].starts_with("state/addressclaims/203.0.113.7.yaml: not YAML: "), "{problems:?}");
    assert!(problems[0].ends_with("; set aside as state/addressclaims/203.0.113.7.yaml.corrupt"), "{problems:?}");
    assert_eq!(
        problems[1],
        "state/services/shop/front.yaml: is not a Service of v1; set aside as state/services/shop/front.yaml.corrupt"
    );
    assert_eq!(store.port("front"), Some(80), "the manifest is in force all the same");
    assert_eq!(scratch.kept("addressclaims/203.0.113.7.yaml.corrupt").as_deref(), Some("{"));
}

#[test]
fn a_half_written_state_file_is_nothing() {
    let scratch = Scratch::new();
    drop(open(&scratch));
    fs::create_dir_all(scratch.state().join("addressclaims")).unwrap();
    fs::write(scratch.state().join("addressclaims/203.0.113.new"), "half").unwrap();
    let store = open(&scratch);
    assert_eq!(store.problem_lines(&scratch), [""; 0]);
    assert_eq!(scratch.kept("addressclaims/203.0.113.new"), None);
}

#[test]
fn a_directory_that_goes_away_takes_nothing_with_it() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &service("front", "80"));
    let store = open(&scratch);
    let (there, away) = (scratch.manifests(), scratch.manifests().with_extension("away"));
    fs::rename(&there, &away).unwrap();
    settle(&store);
    assert_eq!(store.port("front"), Some(80));
    assert_eq!(
        store
            .problem_lines(&scratch)
            .iter()
            .map(|line| line.replace(&there.display().to_string(), "manifests"))
            .collect::<Vec<_>>(),
        ["manifests: cannot be read: No such file or directory (os error 2); everything in it stays in force"]
    );
    fs::rename(&away, &there).unwrap();
    settle(&store);
    assert_eq!((store.port("front"), store.problem_lines(&scratch)), (Some(80), vec![]));
}

#[test]
fn a_state_directory_among_the_manifests_is_not_read_as_such() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", POOL);
    let state = scratch.manifests().join("state");
    let store = Shared::open(scratch.manifests(), state).unwrap();
    settle(&store);
    assert_eq!(store.problem_lines(&scratch), [""; 0]);
}

#[test]
fn secrets_are_in_force_and_nowhere_to_be_seen() {
    let scratch = Scratch::new();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: tor-a, namespace: roadstead-system}\nstringData: {password: s3cret}\n";
    scratch.put("secret.yaml", secret);
    let store = open(&scratch);
    let Some(Object::Secret(object)) = store.view.get(&key(Kind::Secret, "roadstead-system", "tor-a")) else {
        panic!()
    };
    assert_eq!(object.value("password"), Some(&b"s3cret"[..]));
    assert_eq!(scratch.kept("secrets/roadstead-system/tor-a.yaml"), None);
    let broken = [
        "{password: [s3cret]}",
        "{password: s3cret",
        "s3cret",
        "{password: s3cret, password: s3cret}",
        "{password: s3cret}\nstringdata: {password: s3cret}",
        "{password: s3cret}\ndata: {password: s3cret!}",
        "{password: *s3cret}",
        "{password: 1}\nimmutable: s3cret",
    ];
    for data in broken {
        scratch.put("secret.yaml", &secret.replace("{password: s3cret}", data));
        settle(&store);
        let seen = format!("{:?} {store:?}", store.problem_lines(&scratch));
        assert!(!store.problem_lines(&scratch).is_empty(), "{data}");
        assert!(!seen.contains("s3cret"), "{data}: {seen}");
    }
}

fn claim(address: &str, owner: &str) -> AddressClaim {
    let spec = format!(
        r#"{{"cidr":"{address}/32","pool":"public","owners":[{{"kind":"Service","namespace":"shop","name":"{owner}","uid":"u"}}]}}"#
    );
    let spec: AddressClaimSpec = serde_json::from_str(&spec).unwrap();
    AddressClaim::new(address, spec)
}

#[test]
fn a_claim_has_one_owner() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (mut writer, view) = (store.writer(), &store.view);
    let made = writer.create_claim(&claim("203.0.113.7", "front"), view).unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    assert_eq!(view.get(&key(Kind::AddressClaim, "", "203.0.113.7")), Some(Object::from(made.clone())));
    let object = ObjectRef::cluster("AddressClaim", "203.0.113.7");
    assert_eq!(writer.create_claim(&claim("203.0.113.7", "back"), view), Err(WriteError::AlreadyExists(object)));
    assert_eq!(writer.claim("203.0.113.7"), Ok(Some(made)));
    let file = scratch.kept("addressclaims/203.0.113.7.yaml").unwrap();
    assert!(file.starts_with("# Written by Roadstead"), "{file}");
    assert!(file.contains("kind: AddressClaim") && file.contains("name: front") && !file.contains("back"), "{file}");
    // As another process would make it.
    fs::copy(
        scratch.state().join("addressclaims/203.0.113.7.yaml"),
        scratch.state().join("addressclaims/203.0.113.8.yaml"),
    )
    .unwrap();
    let taken = writer.create_claim(&claim("203.0.113.8", "back"), view);
    assert_eq!(taken, Err(WriteError::AlreadyExists(ObjectRef::cluster("AddressClaim", "203.0.113.8"))));
    let left: Vec<_> = fs::read_dir(scratch.state().join("addressclaims")).unwrap().collect();
    assert_eq!(left.len(), 2, "no file beside the claims: {left:?}");
}

#[test]
fn claims_are_written_under_their_preconditions() {
    let scratch = Scratch::new();
    let store = open(&scratch);
    let (mut writer, view) = (store.writer(), &store.view);
    let object = ObjectRef::cluster("AddressClaim", "203.0.113.7");
    let refused = |reason: &str| WriteError::Refused { object: object.clone(), reason: reason.to_owned() };
    assert_eq!(writer.claim("203.0.113.7"), Ok(None));
    let nobody = claim("203.0.113.7", "front");
    assert_eq!(writer.replace_claim(&nobody, view), Err(WriteError::NotFound(object.clone())));
    assert_eq!(writer.delete_claim("203.0.113.7", "u", "1", view), Err(WriteError::NotFound(object.clone())));

    let made = writer.create_claim(&nobody, view).unwrap();
    let (uid, first) = (made.metadata.uid.clone().unwrap(), made.metadata.resource_version.clone().unwrap());
    let with = |change: &dyn Fn(&mut AddressClaim)| {
        let mut claim = made.clone();
        change(&mut claim);
        claim
    };
    let conflict = Err(WriteError::Conflict(object.clone()));
    assert_eq!(writer.replace_claim(&with(&|claim| claim.metadata.uid = Some("other".into())), view), conflict);
    assert_eq!(
        writer.replace_claim(&with(&|claim| claim.metadata.resource_version = Some("0".into())), view),
        conflict
    );
    assert_eq!(
        writer.replace_claim(&with(&|claim| claim.metadata.resource_version = None), view),
        Err(refused("metadata.resourceVersion: must be given to replace an object"))
    );
    assert_eq!(
        writer.replace_claim(&with(&|claim| claim.spec.cidr = "203.0.113.8/32".into()), view),
        Err(refused("spec.cidr: a claim is for one address for ever: delete it and make another"))
    );
    assert_eq!(
        writer.replace_claim(&with(&|claim| claim.spec.owners.clear()), view),
        Err(refused("spec: a claim needs an owner, or the time at which it was released"))
    );
    assert_eq!(writer.replace_claim(&made, view), Ok(made.clone()), "the same again is no write");

    let joined = with(&|claim| claim.spec.owners.push(claim.spec.owners[0].clone()));
    let second = writer.replace_claim(&joined, view).unwrap().metadata.resource_version.unwrap();
    assert_ne!(first, second);
    assert_eq!(writer.replace_claim(&joined, view), conflict, "the version that was read is no longer the last");
    assert_eq!(writer.delete_claim("203.0.113.7", &uid, &first, view), Err(WriteError::Conflict(object.clone())));
    assert_eq!(writer.delete_claim("203.0.113.7", "other", &second, view), Err(WriteError::Conflict(object.clone())));
    assert_eq!(writer.delete_claim("203.0.113.7", &uid, &second, view), Ok(()));
    assert_eq!(
        (view.get(&key(Kind::AddressClaim, "", "203.0.113.7")), scratch.kept("addressclaims/203.0.113.7.yaml")),
        (None, None)
    );

    let outside = writer.create_claim(&claim("../../escape", "front"), view);
    assert!(matches!(outside, Err(WriteError::Refused { .. })), "{outside:?}");
}

#[test]
fn service_status_is_written_under_its_preconditions() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &service("front", "80"));
    let store = open(&scratch);
    let front = ServiceKey { namespace: "shop".into(), name: "front".into() };
    let identity = || {
        let object = store.view.get(&key(Kind::Service, "shop", "front")).unwrap();
        (object.metadata().uid.clone().unwrap(), object.metadata().resource_version.clone().unwrap())
    };
    let (uid, first) = identity();
    let write = |key: &ServiceKey, uid: &str, version: &str, addresses: &[IpAddr]| {
        store.writer().write_service_status(key, uid, version, addresses, &store.view)
    };
    let addresses = ["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    let nobody = ServiceKey { namespace: "shop".into(), name: "nobody".into() };
    assert_eq!(write(&nobody, &uid, &first, &addresses), Err(WriteError::NotFound(nobody.object())));
    assert_eq!(write(&front, "other", &first, &addresses), Err(WriteError::Conflict(front.object())));
    assert_eq!(write(&front, &uid, "0", &addresses), Err(WriteError::Conflict(front.object())));
    assert_eq!(write(&front, &uid, &first, &addresses), Ok(()));
    assert_eq!(write(&front, &uid, &first, &[]), Err(WriteError::Conflict(front.object())));
    let kept = scratch.kept("services/shop/front.yaml").unwrap();
    assert!(kept.contains("- ip: \"203.0.113.7\"\n") && kept.contains("- ip: 2001:db8::7\n"), "{kept}");

    scratch.put("a.yaml", &service("front", "443"));
    settle(&store);
    let Some(Object::Service(object)) = store.view.get(&key(Kind::Service, "shop", "front")) else { panic!() };
    assert_eq!(crate::checked::status_addresses(&object), addresses, "an edit leaves the status alone");
    let (_, now) = identity();
    assert_eq!(write(&front, &uid, &now, &[]), Ok(()));
    assert!(!scratch.kept("services/shop/front.yaml").unwrap().contains("ingress"));
}

#[test]
fn statuses_and_reports_are_kept() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", POOL);
    let store = open(&scratch);
    let status = Status::AddressPool(crate::kinds::AddressPoolStatus::default());
    assert_eq!(store.writer().write_status("public", &status, &store.view), Ok(()));
    let nobody = store.writer().write_status("nobody", &status, &store.view);
    assert_eq!(nobody, Err(WriteError::NotFound(ObjectRef::cluster("AddressPool", "nobody"))));
    let generation =
        |store: &Shared| store.view.get(&key(Kind::AddressPool, "", "public")).unwrap().metadata().generation;
    assert_eq!(generation(&store), Some(1), "a status is no new generation");
    scratch.put("a.yaml", &POOL.replace("203", "198"));
    settle(&store);
    assert_eq!(generation(&store), Some(2), "another spec is");

    let mut report = NodeReport::new("n1", NodeReportSpec { node_name: "n1".into() });
    report.status = Some(NodeReportStatus { established: "1/1".into(), ..NodeReportStatus::default() });
    store.writer().write_node_report(&report, &store.view).unwrap();
    let first = store.view.get(&key(Kind::NodeReport, "", "n1")).unwrap();
    store.writer().write_node_report(&report, &store.view).unwrap();
    assert_eq!(store.view.get(&key(Kind::NodeReport, "", "n1")), Some(first.clone()), "the same again is no write");
    report.status = Some(NodeReportStatus { established: "0/1".into(), ..NodeReportStatus::default() });
    store.writer().write_node_report(&report, &store.view).unwrap();
    let second = store.view.get(&key(Kind::NodeReport, "", "n1")).unwrap();
    assert_eq!(first.metadata().uid, second.metadata().uid);
    assert_ne!(first.metadata().resource_version, second.metadata().resource_version);
    assert!(scratch.kept("nodereports/n1.yaml").unwrap().contains("established: 0/1"));
}

/// What a watch says, as `+Service shop/front`, `-Service shop/front` and `=Service`.
async fn next(events: &mut mpsc::Receiver<Event>) -> String {
    // Generous, because it only ever runs out when the test has failed.
    let event = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
    match event.expect("an event within a minute").expect("a watch does not end") {
        Event::Applied(object) => format!("+{}", ObjectKey::from(&object)),
        Event::Deleted(key, _) => format!("-{key}"),
        Event::Synced(kind) => format!("={kind}"),
    }
}

#[tokio::test]
async fn watches_see_manifests_and_writes() {
    let scratch = Scratch::new();
    scratch.put("a.yaml", &format!("{POOL}---\n{}", service("front", "80")));
    let store = Store::Directory(DirectoryStore::open(scratch.manifests(), scratch.state()).unwrap());
    let elsewhere = Watch::namespace(Kind::Service, "elsewhere");
    let watches = vec![
        Watch::all(Kind::AddressClaim),
        Watch::all(Kind::Service),
        elsewhere,
        Watch::one(Kind::AddressPool, "other"),
    ];
    let mut events = store.watch(watches);
    for expected in ["=AddressClaim", "+Service shop/front", "=Service", "=Service", "=AddressPool"] {
        assert_eq!(next(&mut events).await, expected);
    }
    let made = store.create_claim(&claim("203.0.113.7", "front")).await.unwrap();
    assert_eq!(next(&mut events).await, "+AddressClaim 203.0.113.7");
    store
        .delete_claim("203.0.113.7", &made.metadata.uid.unwrap(), &made.metadata.resource_version.unwrap())
        .await
        .unwrap();
    assert_eq!(next(&mut events).await, "-AddressClaim 203.0.113.7");
    scratch.put("b.yaml", &service("back", "80"));
    assert_eq!(next(&mut events).await, "+Service shop/back");
    scratch.remove("a.yaml");
    assert_eq!(next(&mut events).await, "-Service shop/front");
}

#[tokio::test]
async fn a_node_sees_its_own_pods() {
    let pod = |node: &str| {
        let phase = "phase: Running";
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec: {{containers: [], {node}}}\nstatus: {{{phase}}}\n"
        )
    };
    let scratch = Scratch::new();
    scratch.put("a.yaml", &pod("nodeName: n1"));
    scratch.put("b.yaml", &pod("nodeName: n2").replace("web", "other"));
    let store = Store::Directory(DirectoryStore::open(scratch.manifests(), scratch.state()).unwrap());
    let mut events = store.watch(vec![Watch::pods_of_node("n1")]);
    assert_eq!(next(&mut events).await, "+Pod shop/web");
    assert_eq!(next(&mut events).await, "=Pod");
    scratch.put("a.yaml", &pod("nodeName: n2"));
    assert_eq!(next(&mut events).await, "-Pod shop/web", "it went to another node");
    scratch.put("a.yaml", &pod("nodeName: n1"));
    assert_eq!(next(&mut events).await, "+Pod shop/web");
    scratch.remove("a.yaml");
    assert_eq!(next(&mut events).await, "-Pod shop/web");
}

#[tokio::test]
async fn a_store_lets_go_of_its_state_when_nobody_uses_it() {
    let scratch = Scratch::new();
    let store = Store::Directory(DirectoryStore::open(scratch.manifests(), scratch.state()).unwrap());
    let events = store.watch(vec![Watch::all(Kind::Service)]);
    drop(store);
    assert!(DirectoryStore::open(scratch.manifests(), scratch.state()).is_err(), "a watch is a user");
    drop(events);
    let free = async {
        while DirectoryStore::open(scratch.manifests(), scratch.state()).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.expect("let go within a minute");
}
