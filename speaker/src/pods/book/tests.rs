use std::time::{Duration, Instant};

use roadstead_api::kinds;
use roadstead_cni::socket::PodIdentity;

use super::*;

const NODE: &str = "node-1";

/// A book and the pools of a manifest.
struct Desk {
    book: Book,
    now: Instant,
}

impl Desk {
    fn new(pools: &[&str]) -> Self {
        let mut book = Book::new(NODE, Vec::new());
        for pool in pools {
            let raw: kinds::PodPool = serde_json::from_value(json(pool)).unwrap();
            book.set_pool(raw.metadata.name.as_deref().unwrap(), Some(judged(&raw)));
        }
        Self { book, now: Instant::now() }
    }

    /// Serves an ADD; what it comes to reads `192.0.2.1 2001:db8::1`, or as the refusal.
    fn add(&mut self, request: &AddRequest, pod: Option<&Pod>) -> String {
        let addresses = |assignment: &Assignment| {
            let texts: Vec<String> = assignment.addresses.iter().map(|one| one.address.addr().to_string()).collect();
            texts.join(" ")
        };
        match self.book.reserve(self.now, request, pod) {
            Ok(Reservation::Served(assignment)) => addresses(&assignment),
            Ok(Reservation::New(record, _)) => {
                let assignment = record.assignment.clone();
                self.book.enter(self.now, record);
                addresses(&assignment)
            }
            Ok(Reservation::NeedsBlock(pool)) => {
                let net = self.book.next_block(&pool).unwrap();
                self.book.set_own_block(self.now, net, OwnBlock::confirmed(&pool, ClaimVersion::default()));
                self.add(request, pod)
            }
            Ok(Reservation::NotYet(refusal)) | Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
        }
    }

    fn release(&mut self, request: &AddRequest) -> bool {
        self.book.release(self.now, 0, &request.attachment).is_some()
    }
}

/// A pool that the controller has looked at.
fn judged(raw: &kinds::PodPool) -> PodPool {
    PodPool { is_judged: true, ..PodPool::check(raw).unwrap() }
}

fn json(pool: &str) -> serde_json::Value {
    let (name, spec) = pool.split_once(' ').unwrap();
    let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
    serde_json::json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "PodPool", "metadata": { "name": name }, "spec": spec,
    })
}

fn request(container: &str, interface: &str) -> AddRequest {
    AddRequest {
        attachment: Attachment { container_id: container.to_owned(), interface: interface.to_owned() },
        pod: None,
        netns: "/run/netns/x".to_owned(),
        network: NetworkIdentity { name: "net".to_owned(), definition: None, pools: Vec::new() },
        requested: Vec::new(),
    }
}

fn of_pod(container: &str, uid: &str) -> (AddRequest, Pod) {
    let identity = PodIdentity { namespace: "shop".to_owned(), name: "front".to_owned(), uid: Some(uid.to_owned()) };
    let pod = Pod { uid: uid.to_owned(), namespace: "shop".to_owned(), ..Pod::default() };
    (AddRequest { pod: Some(identity), ..request(container, "eth0") }, pod)
}

const SMALL: &str = r#"small {"subnet":"192.0.2.0/24","ranges":["192.0.2.11-192.0.2.13"],"gateway":"192.0.2.1","nodeNames":["node-1"],"default":true}"#;

#[test]
fn addresses_go_round_and_run_out() {
    let mut desk = Desk::new(&[SMALL]);
    let all: Vec<AddRequest> = ["a", "b", "c", "d"].map(|id| request(id, "eth0")).into();
    assert_eq!(desk.add(&all[0], None), "192.0.2.11");
    assert_eq!(desk.add(&all[1], None), "192.0.2.12");
    assert_eq!(desk.add(&all[0], None), "192.0.2.11", "asked again");
    assert!(desk.release(&all[0]));
    assert!(!desk.release(&all[0]), "there is nothing more to release");
    assert_eq!(desk.add(&all[2], None), "192.0.2.13", "the one just freed comes last");
    assert_eq!(desk.add(&all[0], None), "192.0.2.11");
    let refused = desk.add(&all[3], None);
    assert!(refused.starts_with("101: interface eth0 of container d: no IPv4 address is free"), "{refused}");
}

#[test]
fn an_address_that_rests_is_given_to_nobody() {
    let resting =
        SMALL.replace(r#""default""#, r#""reuseDelaySeconds":60,"exclude":["192.0.2.12-192.0.2.13"],"default""#);
    let mut desk = Desk::new(&[&resting]);
    let (a, b) = (request("a", "eth0"), request("b", "eth0"));
    assert_eq!(desk.add(&a, None), "192.0.2.11");
    desk.release(&a);
    assert!(desk.add(&b, None).starts_with("101:"));
    desk.now += Duration::from_secs(60);
    assert_eq!(desk.add(&b, None), "192.0.2.11");
}

#[test]
fn a_pod_keeps_its_address_over_its_sandboxes() {
    let mut desk = Desk::new(&[SMALL]);
    let ((first, pod), (second, _), (other, another)) = (of_pod("s1", "u1"), of_pod("s2", "u1"), of_pod("s3", "u2"));
    assert_eq!(desk.add(&first, Some(&pod)), "192.0.2.11");
    assert_eq!(desk.add(&second, Some(&pod)), "192.0.2.11");
    assert!(!desk.release(&first), "the DEL of the sandbox before");
    assert_eq!(desk.add(&other, Some(&another)), "192.0.2.12", "of the same name, and another pod");
    assert!(desk.book.check(&second.attachment, &["192.0.2.11".parse().unwrap()]).is_ok());
    assert!(desk.book.check(&first.attachment, &[]).is_err());

    // No longer legal here: the next sandbox gets another.
    let moved = SMALL.replace("192.0.2.11-192.0.2.13", "192.0.2.21-192.0.2.23");
    let raw: kinds::PodPool = serde_json::from_value(json(&moved)).unwrap();
    desk.book.set_pool("small", Some(judged(&raw)));
    let (third, _) = of_pod("s4", "u1");
    assert_eq!(desk.add(&third, Some(&pod)), "192.0.2.21");
    assert!(desk.book.check(&third.attachment, &["192.0.2.21".parse().unwrap()]).is_ok());
}

#[test]
fn what_is_reserved_is_kept_until_it_is_given_up() {
    let mut desk = Desk::new(&[SMALL]);
    let Ok(Reservation::New(record, _)) = desk.book.reserve(desk.now, &request("a", "eth0"), None) else { panic!() };
    assert!(desk.add(&request("a", "eth0"), None).starts_with("11:"), "the same owner twice at once");
    assert_eq!(desk.add(&request("b", "eth0"), None), "192.0.2.12");
    desk.book.give_up(&record.owner);
    assert_eq!(desk.add(&request("c", "eth0"), None), "192.0.2.13");
    assert_eq!(desk.add(&request("d", "eth0"), None), "192.0.2.11");
}

#[test]
fn both_families_and_one_default_route() {
    let six = r#"six {"subnet":"2001:db8::/64","gateway":"2001:db8::1","nodeNames":["node-1"],"default":true,"routes":[{"destination":"2001:db8:7::/48"}]}"#;
    let mut desk = Desk::new(&[SMALL, six]);
    let Ok(Reservation::New(record, claims)) = desk.book.reserve(desk.now, &request("a", "eth0"), None) else {
        panic!()
    };
    assert!(claims.is_empty(), "the pools are this node's alone");
    let routes: Vec<String> = record.assignment.routes.iter().map(|route| route.destination.to_string()).collect();
    assert_eq!(routes, ["0.0.0.0/0", "::/0", "2001:db8:7::/48"]);
    let Ok(Reservation::New(second, _)) = desk.book.reserve(desk.now, &request("a", "net1"), None) else { panic!() };
    let routes: Vec<String> = second.assignment.routes.iter().map(|route| route.destination.to_string()).collect();
    assert_eq!(routes, ["2001:db8:7::/48"]);
    assert_ne!(second.held, record.held, "two interfaces of one container have their own addresses");
}

#[test]
fn pools_that_nodes_share_are_claimed() {
    let shared = r#"shared {"subnet":"192.0.2.0/24","default":true}"#;
    let mut desk = Desk::new(&[shared]);
    let Ok(Reservation::New(record, claims)) = desk.book.reserve(desk.now, &request("a", "eth0"), None) else {
        panic!()
    };
    assert_eq!(claims, [(record.held[0].address, "shared".to_owned())]);
    // Another node was faster.
    desk.book.give_up(&record.owner);
    desk.book.set_foreign(record.held[0].address, true);
    let Ok(Reservation::New(next, _)) = desk.book.reserve(desk.now, &request("a", "eth0"), None) else { panic!() };
    assert_ne!(next.held[0].address, record.held[0].address);
}

#[test]
fn what_a_record_holds_stays_taken_whoever_else_lets_it_go() {
    let mut desk = Desk::new(&[&SMALL.replace("192.0.2.11-192.0.2.13", "192.0.2.11")]);
    assert_eq!(desk.add(&request("a", "eth0"), None), "192.0.2.11");
    // A node has had the address for a while, or another node a claim of it.
    desk.book.set_foreign("192.0.2.11".parse().unwrap(), true);
    desk.book.set_foreign("192.0.2.11".parse().unwrap(), false);
    assert!(desk.add(&request("b", "eth0"), None).starts_with("101:"));
    desk.release(&request("a", "eth0"));
    assert_eq!(desk.add(&request("b", "eth0"), None), "192.0.2.11");
}

#[test]
fn what_becomes_shared_wants_claims() {
    let mut desk = Desk::new(&[SMALL]);
    let (request, pod) = of_pod("s1", "u1");
    desk.add(&request, Some(&pod));
    assert!(desk.book.unclaimed_of_shared_pools().is_empty());
    let shared = SMALL.replace(r#""nodeNames":["node-1"],"#, "");
    let raw: kinds::PodPool = serde_json::from_value(json(&shared)).unwrap();
    desk.book.set_pool("small", Some(judged(&raw)));
    let unclaimed = desk.book.unclaimed_of_shared_pools();
    let [(record, addresses)] = &unclaimed[..] else { panic!("{unclaimed:?}") };
    assert_eq!(addresses, &[("192.0.2.11".parse().unwrap(), "small".to_owned())]);
    let claim = ClaimVersion { uid: "claim".to_owned(), resource_version: "1".to_owned() };
    desk.book.set_claim(&record.owner, addresses[0].0, claim.clone()).unwrap();
    assert!(desk.book.unclaimed_of_shared_pools().is_empty());
    let released = desk.book.release(desk.now, 0, &request.attachment).unwrap();
    assert_eq!(released.free, [("192.0.2.11".parse().unwrap(), claim)]);
}

#[test]
fn every_pool_says_why_it_does_not_serve() {
    let pools = [
        r#"a {"subnet":"192.0.2.0/28","nodeNames":["node-2"],"default":true}"#,
        r#"b {"subnet":"192.0.2.16/28","disabled":true,"default":true}"#,
        r#"c {"subnet":"192.0.2.32/28","networks":["kube-system/other"],"default":true}"#,
        r#"d {"subnet":"192.0.2.48/28","namespaces":["office"],"default":true}"#,
        r#"e {"subnet":"192.0.2.64/28","podSelector":{"matchLabels":{"app":"x"}},"default":true}"#,
        r#"f {"subnet":"192.0.2.80/28","nodeRanges":[{"nodes":["node-2"],"ranges":["192.0.2.82"]}],"default":true}"#,
        r#"g {"subnet":"192.0.2.96/28","default":true}"#,
        r#"h {"subnet":"192.0.2.112/28"}"#,
    ];
    let mut desk = Desk::new(&pools);
    desk.book.set_verdicts(BTreeMap::from([("g".to_owned(), "overlaps PodPool z".to_owned())]), AddressSet::default());
    let (request, pod) = of_pod("s1", "u1");
    let refusal = desk.book.reserve(desk.now, &request, Some(&pod)).unwrap_err();
    assert_eq!(refusal.code, Refusal::NO_POOL);
    let lines: Vec<&str> = refusal.details.lines().collect();
    let expected = [
        "pool a: not for node node-1",
        "pool b: disabled",
        "pool c: not for network net, but for kube-system/other",
        "pool d: not for namespace shop",
        "pool e: its podSelector does not take the pod",
        "pool f: not for node node-1",
        "pool g: not in force: overlaps PodPool z",
    ];
    assert_eq!(lines, expected, "and nothing of h, which is no default");
}

#[test]
fn status_says_whether_an_add_would_be_served() {
    let one = SMALL.replace("192.0.2.11-192.0.2.13", "192.0.2.11");
    let mut desk = Desk::new(&[&one]);
    let network = request("a", "eth0").network;
    assert!(desk.book.status(&network).is_ok());
    desk.add(&request("a", "eth0"), None);
    let refusal = desk.book.status(&network).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.message.contains("small full")),
        (Refusal::NOT_AVAILABLE, true),
        "{}",
        refusal.message
    );
    let named = NetworkIdentity { pools: vec!["other".to_owned()], ..network };
    assert!(desk.book.status(&named).unwrap_err().message.contains("no pool serves network net on node node-1"));
}

#[test]
fn gc_names_what_is_gone_of_one_network() {
    let mut desk = Desk::new(&[SMALL]);
    let mut elsewhere = request("c", "eth0");
    elsewhere.network.name = "other".to_owned();
    for request in [&request("a", "eth0"), &request("b", "eth0"), &elsewhere] {
        desk.add(request, None);
    }
    let valid = BTreeSet::from([request("a", "eth0").attachment]);
    assert_eq!(desk.book.not_among("net", &valid), [request("b", "eth0").attachment]);
}

#[test]
fn what_two_pools_have_and_not_one_more() {
    let pool = |name: &str, subnet: &str, priority: u8| {
        format!(
            r#"{name} {{"subnet":"{subnet}.0/24","ranges":["{subnet}.1-{subnet}.150"],"nodeNames":["node-1"],"default":true,"priority":{priority}}}"#
        )
    };
    let (first, second) = (pool("z-first", "192.0.2", 1), pool("a-second", "198.51.100", 2));
    let mut desk = Desk::new(&[&first, &second]);
    let given: BTreeSet<String> = (0..300).map(|n| desk.add(&request(&format!("c{n}"), "eth0"), None)).collect();
    assert_eq!(given.len(), 300);
    assert_eq!(
        given.iter().filter(|address| address.starts_with("192.0.2.")).count(),
        150,
        "the first before the second"
    );
    let refused = desk.add(&request("one-more", "eth0"), None);
    assert!(refused.starts_with("101:") && refused.contains("z-first") && refused.contains("a-second"), "{refused}");
    desk.release(&request("c7", "eth0"));
    assert!(given.contains(&desk.add(&request("one-more", "eth0"), None)));
}

#[test]
fn of_two_families_both_or_none() {
    let six = r#"six {"subnet":"2001:db8::/64","ranges":["2001:db8::7"],"nodeNames":["node-1"],"default":true}"#;
    let mut desk = Desk::new(&[SMALL, six]);
    assert_eq!(desk.add(&request("a", "eth0"), None), "192.0.2.11 2001:db8::7");
    let refused = desk.add(&request("b", "eth0"), None);
    assert!(refused.starts_with("101: interface eth0 of container b: no IPv6 address is free"), "{refused}");
    // The pod that could not have both took nothing: a network of the one family has it all.
    let four = NetworkIdentity { pools: vec!["small".to_owned()], ..request("c", "eth0").network };
    for (container, expected) in [("c", "192.0.2.12"), ("d", "192.0.2.13")] {
        let request = AddRequest { network: four.clone(), ..request(container, "eth0") };
        assert_eq!(desk.add(&request, None), expected);
    }
}
