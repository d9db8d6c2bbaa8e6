//! Next hops: which of them lead anywhere, and by what.

use crate::world::{fib, in_a_namespace, neighbour, run, set, shell, status_becomes, table_becomes};

#[test]
fn a_next_hop_behind_a_router_follows_the_route_to_it() {
    in_a_namespace("next_hops::a_next_hop_behind_a_router_follows_the_route_to_it", || {
        neighbour("ra", &["192.0.2.1/24"], &["192.0.2.2/24"]);
        neighbour("rb", &["198.51.100.1/24"], &["198.51.100.2/24"]);
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["203.0.113.7"]);
        status_becomes(&fib, "reason", |status| {
            let missing = status.missing.values().next();
            missing.is_some_and(|missing| missing.0 == "no next hop can be used: 203.0.113.7: no route leads to it")
        });
        run("ip route add 203.0.113.0/24 via 192.0.2.2");
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        run("ip route replace 203.0.113.0/24 via 198.51.100.2");
        table_becomes("-4", &["10.2.0.0/16 via 198.51.100.2 dev rb"]);
        run("ip route replace 203.0.113.0/24 nexthop via 198.51.100.2 nexthop via 192.0.2.2");
        table_becomes("-4", &["10.2.0.0/16", "nexthop via 192.0.2.2 dev ra", "nexthop via 198.51.100.2 dev rb"]);
        run("ip route replace blackhole 203.0.113.7/32");
        table_becomes("-4", &[]);
        run("ip route del blackhole 203.0.113.7/32");
        run("ip route replace 203.0.113.0/24 via 198.51.100.2");
        table_becomes("-4", &["10.2.0.0/16 via 198.51.100.2 dev rb"]);

        // Our own table is not asked: a prefix that holds its own next hop would lead to itself.
        set(&fib, "203.0.0.0/16", &["203.0.113.7"]);
        table_becomes(
            "-4",
            &["10.2.0.0/16 via 198.51.100.2 dev rb", "203.0.0.0/16 via 198.51.100.2 dev rb", "throw 203.0.113.0/24"],
        );
        run("ip route del 203.0.113.0/24");
        table_becomes("-4", &[]);
        // By nexthop objects, as FRR has them.
        run("ip nexthop add id 7 via 192.0.2.2 dev ra");
        run("ip route add 203.0.113.0/24 nhid 7");
        set(&fib, "203.0.0.0/16", &[]);
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        run("ip nexthop replace id 7 via 198.51.100.2 dev rb");
        table_becomes("-4", &["10.2.0.0/16 via 198.51.100.2 dev rb"]);
        // A rule of somebody else leads to another table.
        run("ip route add 203.0.113.7/32 via 192.0.2.2 table 100");
        run("ip rule add to 203.0.113.0/24 lookup 100 priority 1000");
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        run("ip rule del priority 1000");
        table_becomes("-4", &["10.2.0.0/16 via 198.51.100.2 dev rb"]);
    });
}

#[test]
fn the_default_route_leads_to_a_next_hop_for_want_of_better() {
    in_a_namespace("next_hops::the_default_route_leads_to_a_next_hop_for_want_of_better", || {
        neighbour("ra", &["192.0.2.1/24"], &["192.0.2.2/24"]);
        neighbour("rb", &["198.51.100.1/24"], &["198.51.100.2/24"]);
        run("ip route add default via 192.0.2.2");
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["203.0.113.7", "198.51.100.2"]);
        table_becomes("-4", &["10.2.0.0/16 via 198.51.100.2 dev rb"]);
        run("ip link set rb down");
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        status_becomes(&fib, "next hop by the default route", |status| {
            status.by_default_route.contains(&"203.0.113.7".parse().unwrap())
        });
        run("ip route replace default via 198.51.100.2 dev ra onlink");
        table_becomes("-4", &["10.2.0.0/16 via 198.51.100.2 dev ra"]);
        run("ip route del default");
        table_becomes("-4", &[]);
    });
}

#[test]
fn a_link_that_goes_takes_its_next_hops_along() {
    in_a_namespace("next_hops::a_link_that_goes_takes_its_next_hops_along", || {
        shell("sysctl -qw net.ipv6.conf.default.keep_addr_on_down=1 net.ipv6.conf.default.accept_dad=0");
        neighbour("ra", &["192.0.2.1/24", "2001:db8:a::1/64"], &["192.0.2.2/24", "2001:db8:a::2/64"]);
        neighbour("rb", &["198.51.100.1/24", "2001:db8:b::1/64"], &["198.51.100.2/24", "2001:db8:b::2/64"]);
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["192.0.2.2", "198.51.100.2"]);
        set(&fib, "10.3.0.0/16", &["198.51.100.2"]);
        set(&fib, "2001:db8:2::/48", &["2001:db8:a::2", "2001:db8:b::2"]);
        let is_whole = || {
            let both = ["nexthop via 192.0.2.2 dev ra", "nexthop via 198.51.100.2 dev rb"];
            table_becomes("-4", &["10.2.0.0/16", both[0], both[1], "10.3.0.0/16 via 198.51.100.2 dev rb"]);
            let both = ["2001:db8:2::/48", "nexthop via 2001:db8:a::2 dev ra", "nexthop via 2001:db8:b::2 dev rb"];
            table_becomes("-6", &both);
        };
        is_whole();
        // Down here, without a carrier, and without an address: each in its own way.
        for (damage, repair) in [
            ("ip link set rb down", "ip link set rb up"),
            ("ip -n rb link set eth0 down", "ip -n rb link set eth0 up"),
            (
                "ip address del 198.51.100.1/24 dev rb; ip address del 2001:db8:b::1/64 dev rb",
                "ip address add 198.51.100.1/24 dev rb; ip address add 2001:db8:b::1/64 dev rb nodad",
            ),
        ] {
            shell(damage);
            table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
            table_becomes("-6", &["2001:db8:2::/48 via 2001:db8:a::2 dev ra"]);
            shell(repair);
            is_whole();
        }
        run("ip link del rb");
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        table_becomes("-6", &["2001:db8:2::/48 via 2001:db8:a::2 dev ra"]);
    });
}

#[test]
fn next_hops_that_are_none() {
    in_a_namespace("next_hops::next_hops_that_are_none", || {
        neighbour("ra", &["192.0.2.1/24", "2001:db8:a::1/64"], &["192.0.2.2/24"]);
        let fib = fib();
        for (prefix, next_hop, reason) in [
            ("10.2.0.0/16", "192.0.2.1", "192.0.2.1: it is an address of this machine"),
            ("10.3.0.0/16", "fe80::1", "fe80::1: a link-local address says nothing without its interface"),
            ("2001:db8:2::/48", "192.0.2.2", "192.0.2.2 is IPv4, over which the kernel routes no IPv6"),
            ("2001:db8:3::/48", "2001:db8:f::1", "2001:db8:f::1: no route leads to it"),
        ] {
            set(&fib, prefix, &[next_hop]);
            status_becomes(&fib, reason, |status| {
                let missing = status.missing.get(&prefix.parse().unwrap());
                missing.is_some_and(|missing| missing.0 == format!("no next hop can be used: {reason}"))
            });
        }
        // An IPv4 address in the form of an IPv6 one is what it stands for.
        set(&fib, "10.4.0.0/16", &["::ffff:192.0.2.2"]);
        table_becomes("-4", &["10.4.0.0/16 via 192.0.2.2 dev ra"]);
    });
}
