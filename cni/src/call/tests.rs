use serde_json::json;

use super::*;

const ENVIRONMENT: &[(&str, &str)] = &[
    (CONTAINER_ID, "c1"),
    (NETNS, "/run/netns/c1"),
    (IFNAME, "eth0"),
    (ARGS, "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=front-0;K8S_POD_UID=u1"),
];

fn read(command: &str, environment: &[(&str, &str)], config: &Value) -> Result<Call, (Version, CallError)> {
    let variable = |name: &str| {
        let mut all = environment.iter().chain(ENVIRONMENT);
        match name {
            COMMAND => Some(command.to_owned()),
            _ => all.find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        }
    };
    Call::read(&variable, config.to_string().as_bytes())
}

fn config() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "pods", "type": "ipvlan", "ipam": { "type": "roadstead-cni" } })
}

fn with(more: Value) -> Value {
    let mut config = config();
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn attachment() -> Attachment {
    Attachment { container_id: "c1".to_owned(), interface: "eth0".to_owned() }
}

#[test]
fn an_add_says_what_the_runtime_said() {
    let ipam = json!({ "type": "roadstead-cni", "socket": "/s", "network": "kube-system/ens5", "pools": ["a", "b*"] });
    let runtime = json!({ "ips": ["192.0.2.7/24", "2001:db8::7"] });
    let args = json!({ "cni": { "ips": ["192.0.2.7"] } });
    let config = with(json!({ "ipam": ipam, "runtimeConfig": runtime, "args": args, "somethingElse": [1] }));
    let call = read("ADD", &[], &config).unwrap();
    let pod = PodIdentity { namespace: "shop".into(), name: "front-0".into(), uid: Some("u1".into()) };
    let network = NetworkIdentity {
        name: "pods".into(),
        definition: Some("kube-system/ens5".into()),
        pools: vec!["a".into(), "b*".into()],
    };
    let expected = AddRequest {
        attachment: attachment(),
        pod: Some(pod),
        netns: "/run/netns/c1".into(),
        network,
        requested: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
    };
    assert_eq!((call.socket, call.action), ("/s".into(), Action::Add(expected)));
}

#[test]
fn what_is_optional_may_be_missing() {
    let call = read("ADD", &[(ARGS, "")], &config()).unwrap();
    let Action::Add(request) = call.action else { panic!("{:?}", call.action) };
    assert_eq!((request.pod, request.requested, call.socket), (None, vec![], DEFAULT_SOCKET.into()));
    // A runtime that has forgotten the namespace still has to say that the container is gone.
    let del = DelRequest { attachment: attachment(), network: "pods".into() };
    assert_eq!(read("DEL", &[(NETNS, "")], &config()).unwrap().action, Action::Del(del));
    let old = read("ADD", &[(ARGS, "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=front-0")], &config()).unwrap();
    let Action::Add(AddRequest { pod: Some(pod), .. }) = old.action else { panic!("{:?}", old.action) };
    assert_eq!(pod.uid, None);
}

#[test]
fn a_check_knows_the_addresses_of_the_result_before() {
    let before = json!({ "cniVersion": "1.1.0", "ips": [{ "address": "192.0.2.7/24", "interface": 0 }] });
    let call = read("CHECK", &[], &with(json!({ "prevResult": before }))).unwrap();
    let addresses = vec!["192.0.2.7".parse().unwrap()];
    let expected = CheckRequest { attachment: attachment(), network: "pods".into(), addresses };
    assert_eq!(call.action, Action::Check(expected));
}

#[test]
fn gc_needs_its_list() {
    let valid = json!([{ "containerID": "c1", "ifname": "eth0" }]);
    let call = read("GC", &[], &with(json!({ "cni.dev/valid-attachments": valid }))).unwrap();
    assert_eq!(call.action, Action::Gc(GcRequest { network: "pods".into(), valid: vec![attachment()] }));
    assert_eq!(read("GC", &[], &config()).unwrap_err().1.code(), 7);
}

#[test]
fn every_version_is_spoken_and_no_other() {
    for version in Version::ALL {
        let config = with(json!({ "cniVersion": version.as_str() }));
        assert_eq!(read("ADD", &[], &config).unwrap().version, version);
        let (check, status) = (read("CHECK", &[], &config), read("STATUS", &[], &config));
        assert_eq!(check.is_ok(), version >= Version::V0_4_0, "CHECK in {version}");
        assert_eq!(status.is_ok(), version >= Version::V1_1_0, "STATUS in {version}");
    }
    for other in ["", "0.1.0", "0.2.0", "0.3.0", "1.2.0", "1"] {
        let config = with(json!({ "cniVersion": other }));
        assert_eq!(read("ADD", &[], &config).unwrap_err().1.code(), 1, "{other}");
        assert_eq!(read("VERSION", &[], &config).unwrap().action, Action::Version, "{other}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_code() {
    #[track_caller]
    fn check(code: u32, result: Result<Call, (Version, CallError)>, words: &str) {
        let (_, error) = result.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    check(4, read("", &[], &config()), "CNI_COMMAND=\"\": must be ADD");
    check(4, read("RUN", &[], &config()), "CNI_COMMAND=\"RUN\"");
    check(4, read("ADD", &[(CONTAINER_ID, "")], &config()), "CNI_CONTAINERID=\"\"");
    check(4, read("ADD", &[(CONTAINER_ID, "../x")], &config()), "CNI_CONTAINERID=\"../x\"");
    check(4, read("DEL", &[(IFNAME, "a/b")], &config()), "CNI_IFNAME=\"a/b\"");
    check(4, read("ADD", &[(IFNAME, "interface-of-17-c")], &config()), "CNI_IFNAME");
    check(4, read("ADD", &[(NETNS, "")], &config()), "CNI_NETNS");
    check(7, read("ADD", &[], &with(json!({ "name": "" }))), "name: \"\"");
    check(7, read("ADD", &[], &with(json!({ "ipam": { "network": "ens5" } }))), "ipam.network: \"ens5\"");
    let bad = with(json!({ "runtimeConfig": { "ips": ["192.0.2"] } }));
    check(7, read("ADD", &[], &bad), "runtimeConfig.ips: \"192.0.2\"");
    check(6, read("ADD", &[], &json!([])), "no network configuration");
    check(6, read("ADD", &[], &with(json!({ "ipam": 7 }))), "no network configuration");
}

/// The configuration of the plugin as a part of a list, behind one that made an interface of two addresses.
fn chained(more: Value) -> Value {
    let mut config = with(json!({
        "type": "roadstead-cni",
        "ipam": null,
        "prevResult": {
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": "ens5" }, { "name": "eth0", "sandbox": "/run/netns/c1" }],
            "ips": [
                { "address": "192.0.2.7/24", "gateway": "192.0.2.1", "interface": 1 },
                { "address": "192.0.2.1/24", "interface": 0 },
                { "address": "2001:db8::7/64" },
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "192.0.2.1" }, { "dst": "10.0.0.0/8" }],
        },
    }));
    config.as_object_mut().unwrap().remove("ipam");
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn behind_another_plugin_it_is_told_the_interface() {
    let given = |address: &str, gateway: Option<&str>| crate::reach::GivenAddress {
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    let interface = crate::reach::Interface {
        addresses: vec![given("192.0.2.7/24", Some("192.0.2.1")), given("2001:db8::7/64", None)],
        routes: vec![
            ("0.0.0.0/0".parse().unwrap(), Some("192.0.2.1".parse().unwrap())),
            ("10.0.0.0/8".parse().unwrap(), None),
        ],
    };
    let config = chained(json!({ "socket": "/s" }));
    let call = read("ADD", &[], &config).unwrap();
    let add = |interface, cluster| {
        let (network, netns, previous) = ("pods".to_owned(), "/run/netns/c1".into(), config["prevResult"].clone());
        Action::Chained(Chained::Add { network, attachment: attachment(), netns, interface, cluster, previous })
    };
    assert_eq!((call.socket, call.action), ("/s".into(), add(Some(interface), None)));
    // Switched off for this network, nothing is touched; and the ranges may be named on the spot.
    let off = read("ADD", &[], &chained(json!({ "tunePodRoutes": false, "clusterCIDRs": ["10.96.0.0/16"] }))).unwrap();
    assert_eq!(off.action, add(None, Some(vec!["10.96.0.0/16".parse().unwrap()])));
}

#[test]
fn behind_another_plugin_the_rest_is_asked_as_well() {
    let del = |netns: Option<&str>| {
        let (network, netns) = ("pods".to_owned(), netns.map(Into::into));
        Action::Chained(Chained::Del { network, attachment: attachment(), netns })
    };
    assert_eq!(read("DEL", &[], &chained(json!({}))).unwrap().action, del(Some("/run/netns/c1")));
    // A DEL has no result to go by where the ADD never came to its end.
    let bare = chained(json!({ "prevResult": null }));
    assert_eq!(read("DEL", &[(NETNS, "")], &bare).unwrap().action, del(None));
    let (_, error) = read("ADD", &[], &bare).unwrap_err();
    assert!(error.code() == 7 && error.to_string().contains("stands behind the plugin"), "{error}");
    let (_, error) = read("ADD", &[], &chained(json!({ "prevResult": { "ips": [{}] } }))).unwrap_err();
    assert!(error.code() == 6 && error.to_string().contains("prevResult"), "{error}");
    assert_eq!(read("GC", &[], &chained(json!({}))).unwrap_err().1.code(), 7);
    let status = |more| read("STATUS", &[], &chained(more)).unwrap().action;
    let asked = |needs_speaker| Action::Chained(Chained::Status { network: "pods".to_owned(), needs_speaker });
    assert_eq!(status(json!({})), asked(true));
    assert_eq!(status(json!({ "clusterCIDRs": [] })), asked(false));
    assert_eq!(read("VERSION", &[], &chained(json!({}))).unwrap().action, Action::Version);
}
