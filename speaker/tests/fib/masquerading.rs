//! Packets that keep their source address, though a CNI plugin's chain would masquerade them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_speaker::fib::Ending;

use crate::world::{eventually, fib, in_a_namespace, neighbour, run, shell, source_seen, status_becomes};

const PODS: [&str; 2] = ["10.1.0.2", "2001:db8:1::2"];
const REMOTE: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8:a::1"];

/// A pod, this node, and a machine of another cluster.
fn pod_and_remote() {
    neighbour("pod", &["10.1.0.1/24", "2001:db8:1::1/64"], &["10.1.0.2/24", "2001:db8:1::2/64"]);
    neighbour("far", &["192.0.2.1/24", "2001:db8:a::1/64"], &["192.0.2.2/24", "2001:db8:a::2/64"]);
    shell(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
         ip -n pod route add default via 10.1.0.1
         ip -n pod -6 route add default via 2001:db8:1::1
         ip -n far address add 10.2.0.1/32 dev lo
         ip -n far address add 2001:db8:2::1/128 dev lo
         ip -n far route add 10.1.0.0/16 via 192.0.2.1
         ip -n far -6 route add 2001:db8:1::/48 via 2001:db8:a::1
         ip route add 10.2.0.0/16 via 192.0.2.2
         ip -6 route add 2001:db8:2::/48 via 2001:db8:a::2",
    );
}

fn seen() -> Vec<String> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let both = PODS.into_iter().zip(REMOTE);
    both.map(|(pod, remote)| source_seen("pod", address(pod), "far", address(remote)).to_string()).collect()
}

fn prefixes(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| text.parse().expect("a prefix")).collect()
}

#[test]
fn a_plugin_masquerades_and_accepted_prefixes_are_left_out() {
    in_a_namespace("masquerading::a_plugin_masquerades_and_accepted_prefixes_are_left_out", || {
        pod_and_remote();
        let plugins = [
            "nft 'add table ip cni; add chain ip cni post { type nat hook postrouting priority 100; }; \
             add rule ip cni post ip saddr 10.1.0.0/24 masquerade'
             nft 'add table ip6 cni; add chain ip6 cni post { type nat hook postrouting priority 100; }; \
             add rule ip6 cni post ip6 saddr 2001:db8:1::/64 masquerade'",
            "nft 'delete table ip cni; delete table ip6 cni'
             iptables-nft -t nat -A POSTROUTING -s 10.1.0.0/24 -j MASQUERADE
             ip6tables-nft -t nat -A POSTROUTING -s 2001:db8:1::/64 -j MASQUERADE",
        ];
        let fib = fib();
        let pods = prefixes(&["10.1.0.0/16", "2001:db8:1::/48"]);
        assert_eq!(seen(), PODS);
        for plugin in plugins {
            shell(plugin);
            eventually(seen, NODE.map(str::to_owned).to_vec());
            fib.set_unmasqueraded(pods.clone(), prefixes(&["10.2.0.0/16", "2001:db8:2::/48"]));
            eventually(seen, PODS.map(str::to_owned).to_vec());
            // Somebody else removes it: it is back.
            run("nft delete table inet roadstead");
            eventually(seen, PODS.map(str::to_owned).to_vec());
            run("nft flush set inet roadstead destinations6");
            eventually(seen, PODS.map(str::to_owned).to_vec());
            // Other prefixes are none of ours.
            fib.set_unmasqueraded(pods.clone(), prefixes(&["10.2.1.0/24", "10.3.0.0/16", "2001:db8:2:1::/64"]));
            eventually(seen, NODE.map(str::to_owned).to_vec());
            fib.set_unmasqueraded(pods.clone(), BTreeSet::new());
            eventually(|| run("nft list tables").contains("roadstead"), false);
        }
        assert!(fib.close(Ending::Remove));
    });
}

#[test]
fn the_table_as_nft_shows_it() {
    in_a_namespace("masquerading::the_table_as_nft_shows_it", || {
        let fib = fib();
        let sources = prefixes(&["10.1.0.0/16", "10.1.4.0/24", "2001:db8:1::/48"]);
        fib.set_unmasqueraded(sources, prefixes(&["0.0.0.0/1", "10.2.0.0/16", "10.3.0.0/16", "255.0.0.0/8", "::/0"]));
        let text = "table inet roadstead {
	set sources4 {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/16 }
	}

	set destinations4 {
		type ipv4_addr
		flags interval
		elements = { 0.0.0.0/1, 255.0.0.0/8 }
	}

	set sources6 {
		type ipv6_addr
		flags interval
		elements = { 2001:db8:1::/48 }
	}

	set destinations6 {
		type ipv6_addr
		flags interval
		elements = { ::/0 }
	}

	chain postrouting {
		type nat hook postrouting priority srcnat - 10; policy accept;
		ip saddr @sources4 ip daddr @destinations4 snat ip to ip saddr
		ip6 saddr @sources6 ip6 daddr @destinations6 snat ip6 to ip6 saddr
	}
}
";
        let ours = || shell("nft list table inet roadstead || true");
        eventually(ours, text);
        let bytecode = run("nft --debug=netlink list table inet roadstead");
        // What nft makes of its own text is the same to the last instruction.
        assert!(fib.close(Ending::Remove));
        std::fs::write("/run/table", text).expect("a file");
        run("nft -f /run/table");
        assert_eq!(bytecode, run("nft --debug=netlink list table inet roadstead"));
    });
}

#[test]
fn many_prefixes_in_one_step() {
    in_a_namespace("masquerading::many_prefixes_in_one_step", || {
        let fib = fib();
        // None of them touches another: twice as many borders, in several messages of one transaction.
        let many = |third: u8| -> BTreeSet<IpNet> {
            (0..20_000_u32)
                .map(|number| format!("10.{}.{}.{third}/32", number / 250, number % 250).parse().unwrap())
                .collect()
        };
        let count =
            || shell("nft list set inet roadstead destinations4 | grep -oE ' 10[.][0-9.]+' | wc -l").trim().to_owned();
        for third in [1, 9] {
            fib.set_unmasqueraded(prefixes(&["10.1.0.0/16"]), many(third));
            status_becomes(&fib, "table", |status| status.problems.is_empty());
            eventually(count, "20000");
        }
    });
}
